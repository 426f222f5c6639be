"""The scores of all datasets as a text table."""


def score_table(result: dict) -> str:
    """The scores of all datasets as a text table."""

    def percent(value: float | None) -> str:
        return "   n/a" if value is None else f"{100 * value:6.1f}"

    head = f"{'dataset':<16}{'labels':<22}{'images':>7}{'mIoU':>8}{'macc':>8}{'acc':>8}"
    rows = [f"{head}   labelled pixels: right / wrong / outside, %"]
    for name, d in result["datasets"].items():
        parts = d["decided"]
        total = max(sum(parts[k] for k in ("right", "wrong", "outside")), 1)
        split = " / ".join(f"{100 * parts[k] / total:.1f}" for k in ("right", "wrong", "outside"))
        numbers = "  ".join(percent(d[k]) for k in ("miou", "macc", "acc"))
        free = d["unlabelled"]
        claimed = f"; of the rest {100 * free['claimed'] / free['pixels']:.1f} are claimed" if free["pixels"] else ""
        if d["strict_miou"] is not None:
            claimed += f", mIoU with these as false alarms{percent(d['strict_miou'])}"
        rows.append(f"{name:<16}{d['label_space']:<22}{d['images']:>7}  {numbers}   {split}{claimed}")
    backed = {name: d["back_off"] for name, d in result["datasets"].items() if "back_off" in d}
    for i, (name, b) in enumerate(backed.items()):
        if not i:
            titles = "  ancestor error     coverage, %      accuracy, %   consistent, %"
            rows.append(f"at leaves -> stopped at {b['least']:<4g}: {titles}")
        steps = " -> ".join("n/a" if v is None else f"{v:.2f}" for v in b["ancestor_error"])
        shares = (" ->".join(map(percent, b[key])) for key in ("coverage", "accuracy", "consistent"))
        rows.append(f"{name:<30}{steps:>16}  {''.join(f'{s:>17}' for s in shares)}")
    return "\n".join(rows)
