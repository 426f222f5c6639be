"""What a trained network forgets when it learns more: fine-tuned, with a teacher, grown, and trained jointly.

python benchmarks/growing.py --out DIR [--data DIR] [--steps 1300] [--left-out idd_lite] [--types 10] [key=value ...]

Two questions on the real data of `experiments/real.yaml`. A: one dataset is left out for half of the steps and added
for the other half, alone or beside the others, with and without the first network as the teacher; beside it all four
from the start. B: ten sign types, every second of the most frequent ones, are one leaf for half of the steps and are
then grown from their boxes; beside it all types from the start. All is scored on the val parts of all datasets; B also
counts the pixels of val images whose old label changed. What lies in DIR is kept, so a call goes on where the last one
was stopped. One table: DIR/growing.md.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heteroseg.evaluation.scores import evaluate
from heteroseg.experiment.config import Experiment, load_experiment
from heteroseg.experiment.sources import Source, open_sources
from heteroseg.files import read_json, write_json, write_text, write_yaml
from heteroseg.labels.space import load_label_space
from heteroseg.labels.taxonomy import load_taxonomy
from heteroseg.model.growing import changed_pixels
from heteroseg.model.model import load
from heteroseg.model.run_folder import training_seconds
from heteroseg.training.loop import train

REAL = Path(__file__).parents[1] / "experiments" / "real.yaml"
SIGNS, OTHER = "traffic sign", "other sign"
LIMIT: int | None = None  # val images of a dataset that are looked at
LATER = {"optimiser": {"lr": 5e-4}}  # of a network that is trained already
Row = dict[str, Any]


def changed(experiment: Experiment, **sections: dict[str, Any]) -> Experiment:
    """The experiment with keys of its sections changed, as `train={"steps": 2}`."""
    update = {name: getattr(experiment, name).model_copy(update=keys) for name, keys in sections.items()}
    return experiment.model_copy(update=update)


def with_datasets(experiment: Experiment, names: Sequence[str]) -> Experiment:
    """Only these datasets, and nothing to score while training: `score` does it."""
    kept = {name: experiment.datasets[name].model_copy(update={"val": None}) for name in names}
    return experiment.model_copy(update={"datasets": kept})


def val_sources(experiment: Experiment, home: Path) -> list[Source]:
    sources = open_sources(experiment, home, ("val",))
    for source in sources:
        source.val = source.val[:LIMIT]
    return sources


def score(full: Experiment, home: Path, run: Path) -> Row:
    """mIoU of every dataset and the pixel accuracy of each of GTSDB's types, kept in the RUN's folder."""
    file = run.with_suffix(".json")
    if not file.exists():
        found = evaluate(load(run), val_sources(full, home))["datasets"]
        types = {name: entry["acc"] for name, entry in found["gtsdb"]["per_class"].items()}
        write_json(file, {"miou": {name: d["miou"] for name, d in found.items()}, "types": types})
    return read_json(file) | {"minutes": (training_seconds(run) or 0) / 60}


def trained(experiment: Experiment, full: Experiment, home: Path, run: Path) -> Row:
    """Train, where that is not done, and score."""
    if not run.with_suffix(".json").exists():
        train(experiment, home, run, resume=run.exists(), allow_overlap=True)
    return score(full, home, run)


def jointly(base: Experiment, home: Path, out: Path) -> Row:
    """All datasets and all types from the start, for all steps: what both questions are compared with."""
    return trained(with_datasets(base, list(base.datasets)), base, home, out / "joint")


def left_out(base: Experiment, home: Path, out: Path, name: str) -> dict[str, Row]:
    """The ways to come to all datasets, one of them later."""
    every = list(base.datasets)
    others = [other for other in every if other != name]
    half = base.train.steps // 2
    first = changed(with_datasets(base, others), train={"steps": half})
    rows = {f"without {name}": trained(first, base, home, out / "without")}
    begin = {"steps": base.train.steps - half, "begin": str(out / "without" / "best")}
    for way, names in ((f"then {name} alone", [name]), ("then all", every)):
        for teacher in (False, True):
            keys = begin | ({"teacher": begin["begin"]} if teacher else {})
            later = changed(with_datasets(base, names), train=keys, **LATER)
            told = f"{way}{', with a teacher' * teacher}"
            rows[told] = trained(later, base, home, out / told.replace(" ", "-").replace(",", ""))
    return rows


def frequent(base: Experiment, home: Path, count: int) -> list[str]:
    """Every second of GTSDB's most frequent types in its train part."""
    (source,) = open_sources(base.model_copy(update={"datasets": {"gtsdb": base.datasets["gtsdb"]}}), home, ("train",))
    boxes = Counter(i for item in source.train for i in item.box_ids.tolist())
    names = {label.id: label.name for label in source.space.labels if label.leaves}
    return [names[i] for i, _ in boxes.most_common() if i in names][: 2 * count : 2]


def write_specs(base: Experiment, home: Path, out: Path, ten: list[str]) -> None:
    """`old.yaml` and `new.yaml`, trees whose ten types are one leaf and are not, and GTSDB's labels for both."""
    tree = load_taxonomy(base.taxonomy, home).to_file()
    signs = [name for name in tree.tree[SIGNS] if name not in ten]
    old = tree.tree | {SIGNS: [*signs, OTHER]}
    colors = {name: color for name, color in tree.colors.items() if name not in ten}
    write_yaml(out / "old.yaml", tree.model_copy(update={"name": "old", "tree": old, "colors": colors}))
    write_yaml(out / "new.yaml", tree.model_copy(update={"name": "new", "tree": old | {OTHER: ten}}))
    space = load_label_space(base.datasets["gtsdb"].label_space, None, home).file
    coarse = {"nodes": OTHER, "evaluate": False}
    nothing = {"nodes": None, "ignore": True, "evaluate": False}
    for name, hidden, update in (("coarse", ten, coarse), ("ten", signs, nothing)):
        labels = [e.model_copy(update=update) if e.name in hidden else e for e in space.labels]
        write_yaml(out / f"{name}.yaml", space.model_copy(update={"name": f"gtsdb-{name}", "labels": labels}))


def sign_types(base: Experiment, home: Path, out: Path, count: int) -> tuple[dict[str, Row], list[str]]:
    """The ways to come to ten more types: grown, and from the start."""
    ten = frequent(base, home, count)
    write_specs(base, home, out, ten)
    full = base.model_copy(update={"taxonomy": str(out / "new.yaml")})
    half = base.train.steps // 2
    gtsdb = base.datasets["gtsdb"]

    def labelled(experiment: Experiment, tree: str, **keys: Any) -> Experiment:
        datasets = experiment.datasets | {"gtsdb": gtsdb.model_copy(update={"val": None, **keys})}
        return experiment.model_copy(update={"taxonomy": str(out / tree), "datasets": datasets})

    every = with_datasets(base, list(base.datasets))
    first = changed(labelled(every, "old.yaml", label_space=str(out / "coarse.yaml")), train={"steps": half})
    coarse = labelled(base, "old.yaml", label_space=str(out / "coarse.yaml"), val=gtsdb.val)
    rows = {f"{count} types are one": trained(first, coarse, home, out / "coarse")}
    alone = labelled(with_datasets(base, ["gtsdb"]), "new.yaml", label_space=str(out / "ten.yaml"), rare=1.0)
    keys = {"steps": base.train.steps - half, "begin": str(out / "coarse" / "best"), "grow": OTHER}
    rows["then grown"] = trained(changed(alone, train=keys), full, home, out / "grown")
    file = out / "changed.json"
    if not file.exists():
        images = [item.image for source in val_sources(base, home) for item in source.val]
        write_json(file, changed_pixels(load(out / "coarse"), load(out / "grown"), images))
    rows["then grown"]["changed"] = max(read_json(file).values())
    return rows, ten


def percent(value: float | None, digits: str = ".1f") -> str:
    return "n/a" if value is None else f"{100 * value:{digits}}"


def mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def table(rows: dict[str, Row], datasets: Sequence[str], ten: Sequence[str] = ()) -> str:
    head = ["way", *(f"{name} mIoU" for name in datasets), "minutes"]
    more = [f"macc of the {len(ten)}", "macc of the other types", "pixels with another old label"] if ten else []
    lines = [head + more, ["---"] * len(head + more)]
    for way, row in rows.items():
        line = [way, *(percent(row["miou"][name]) for name in datasets), f"{row['minutes']:.1f}"]
        if ten:
            known = [[row["types"].get(t) for t in row["types"] if (t in ten) == inside] for inside in (True, False)]
            line += [percent(mean(values)) for values in known]
            line += [percent(row["changed"], ".4g") if "changed" in row else ""]
        lines.append(line)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--data", type=Path, help="folder of the four datasets (default: as in experiments/real.yaml)")
    parser.add_argument("--steps", type=int, default=1300, help="of all ways, in one go or in two halves")
    parser.add_argument("--left-out", default="idd_lite", help="dataset that is added later")
    parser.add_argument("--types", type=int, default=10, help="sign types that are grown")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--limit", type=int, help="look at the first N val images of each dataset alone, to try it")
    args = parser.parse_args()
    global LIMIT
    LIMIT = args.limit
    root = [f"data_root={args.data.resolve()}"] if args.data else []
    base, home = load_experiment(REAL, [*root, f"train.steps={args.steps}", *args.overrides])
    out = args.out.resolve()
    added = left_out(base, home, out / "added", args.left_out)
    grown, ten = sign_types(base, home, out / "types", args.types)
    joint = {"all from the start": jointly(base, home, out)}
    text = f"{args.steps} steps in all.\n\n{table(added | joint, list(base.datasets))}\n\n"
    text += f"{table(grown | joint, list(base.datasets), ten)}\n\nThe types: {', '.join(ten)}.\n"
    write_text(out / "growing.md", text)
    print(text)


if __name__ == "__main__":
    main()
