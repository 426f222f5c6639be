"""Looking at what users wrote and have: specs, data on disk, score tables, as plain text."""

from collections.abc import Callable
from pathlib import Path

from heteroseg.curation.audit import Audit, count_split
from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import Experiment
from heteroseg.labels.space import LabelSpace, load_label_space
from heteroseg.labels.taxonomy import Taxonomy, find_spec, load_taxonomy
from heteroseg.training.batches import Source, open_sources

MOST_FAULTS = 20  # told per dataset


def _load_spec(name: str) -> Taxonomy | LabelSpace:
    """A taxonomy or a label space, by what the file holds; for a plain name, whichever is shipped."""
    if not name.endswith((".yaml", ".yml")):
        try:
            return load_taxonomy(name)
        except HeterosegError as error:
            try:
                return load_label_space(name)
            except HeterosegError as second:
                raise HeterosegError(*(error.faults if "no shipped file" in str(second) else second.faults)) from None
    document = find_spec("taxonomies", name)
    keys = set(document.data) if isinstance(document.data, dict) else set()
    if "labels" in keys:
        return load_label_space(name)
    if "tree" in keys:
        return load_taxonomy(name)
    raise HeterosegError(f"{name}: expected a taxonomy (key 'tree') or a label space (key 'labels'), found neither")


def check_spec_file(name: str) -> str:
    """One line that says what a sound file holds, and notes on what it leaves open; faults raise HeterosegError."""
    spec = _load_spec(name)
    if isinstance(spec, Taxonomy):
        sizes = f"{len(spec.leaves)} leaves, {len(spec.classifiers)} classifiers, {spec.channels} logits"
        return f"{name}: taxonomy {spec.name!r}, {sizes}"
    mapped = int((~spec.ignored).sum())
    unions = sum(len(spec.taxonomy.cover(label.leaves)) > 1 for label in spec.labels)
    head = (
        f"{name}: label space {spec.name!r} of taxonomy {spec.taxonomy.name!r}, {len(spec.labels)} labels "
        f"({mapped} mapped, {unions} unions, {len(spec.labels) - mapped} ignored)"
    )
    return "\n".join([head, *_undeclared(spec)])


def _undeclared(space: LabelSpace) -> list[str]:
    """A note for each label that may also be what others say, where the space does not tell if these are complete."""
    tree, notes = space.taxonomy, []
    for i, wide in enumerate(space.labels):
        may = space.training_leaves(i) if wide.evaluate else frozenset()
        inside = [b for b in space.labels if b.evaluate and b.leaves < wide.leaves and b.leaves <= may]
        nodes = [tree.names[n] for b in inside for n in tree.cover(b.leaves)]
        if nodes and not set(nodes) & set(space.file.coverage):
            said = ", ".join(f"{n}: complete" for n in nodes[:3]) + (", ..." if nodes[3:] else "")
            notes.append(
                f"  note: training takes {wide.name!r} for all that may also be {inside[0].name!r}"
                f"{' and others' if inside[1:] else ''}; if these are labelled wherever they occur, add "
                f"'coverage: {{{said}}}'"
            )
    return notes


def show_spec_file(name: str) -> str:
    """The tree, one node a line with its logit, or the labels with the nodes that they cover."""
    spec = _load_spec(name)
    lines = [check_spec_file(name), ""]
    if isinstance(spec, Taxonomy):
        for n, node in enumerate(spec.names):
            owns = spec.classifier_of[n]
            logit = f"  [{spec.channel_of[n]}]" if spec.channel_of[n] >= 0 else ""
            count = f"  classifier {owns}: {len(spec.children[n])} classes" if owns >= 0 else ""
            lines.append(f"{'  ' * spec.depth(n)}{node}{logit}{count}")
        return "\n".join(lines)
    width = max(len(label.name) for label in spec.labels)
    for label in spec.labels:
        nodes = " + ".join(spec.taxonomy.names[n] for n in spec.taxonomy.cover(label.leaves)) or "(ignored)"
        note = "" if label.evaluate or not label.leaves else "  (not evaluated)"
        lines.append(f"{label.id:6d}  {label.name:<{width}}  {nodes}{note}")
    return "\n".join(lines)


def _check_split(source: Source, split: str, say: Callable[[str], None]) -> list[str]:
    counts = count_split(source, split)
    labelled, boxes = counts.pixels.sum(), counts.boxes.sum()
    say(f"{source.name} {split}: {counts.total} images, {labelled} labelled pixels{f', {boxes} boxes' * bool(boxes)}")
    for i, label in enumerate(source.space.labels):
        if label.leaves:
            share = counts.pixels[i] / max(labelled, 1)
            say(f"  {label.id:6d}  {label.name:<28} {counts.pixels[i]:>12}  {share:8.3%}  in {counts.images[i]} images")
    faults = list(counts.faults)
    if len(faults) > MOST_FAULTS:
        faults = [*faults[:MOST_FAULTS], f"{source.name} {split}: {len(faults) - MOST_FAULTS} more faults like these"]
    return faults


def check_data(experiment: Experiment, folder: Path, say: Callable[[str], None]) -> None:
    """Decode every image and annotation of an experiment and print how often each label occurs.

    Raises HeterosegError with all faults: files that cannot be read, ids outside the label space, bad boxes.
    """
    faults = []
    for source in open_sources(experiment, folder):
        for split, items in (("train", source.train), ("val", source.val)):
            if items:
                faults.extend(_check_split(source, split, say))
    if faults:
        raise HeterosegError(*faults)
    say("all sound")


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
    k = result["knowledge"]
    rows.append(f"concepts seen {k['concepts']}, with IoU >= 0.5 {k['half']}, sum of IoUs {k['sum']:.1f}")
    return "\n".join(rows)


def audit_table(audit: Audit) -> str:
    """What an audit found, one line for each dataset."""
    lines = []
    for name, splits in audit.counts.items():
        parts = [f"{c.total} {split} images" for split, c in splits.items()]
        parts += [f"{sum(len(c.faults) for c in splits.values())} faults"]
        if view := audit.views.get(name):
            found = view.found
            parts += [
                f"{found['region']} regions and {found['box']} boxes in dispute, {found['no box']} seen without a box"
            ]
        lines.append(f"{name}: {', '.join(parts)}")
    odd = f"{len(audit.relations)} pairs of labels with names at odds"
    return "\n".join([*lines, odd + (f", {len(audit.conflicts)} seen at odds" if audit.views else "")])
