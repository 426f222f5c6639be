"""The other ways to train on several datasets, as settings of the same machine: another tree, other label spaces.

Each way turns an experiment into one or more that `heteroseg train` runs as they are. Labels keep their ids and order,
so that predictions of all ways are scored by the same tables.

hierarchical  the experiment itself
iv2018        Meletis & Dubbelman, IV 2018: void logits, lambda 1 and 0.1, mean per classifier, hard gate, SGD
flat          one softmax over the leaves; a label is the sum of its leaves
concat        one softmax over all labels of all datasets, equal names being equal: the paper's flat baseline
per_dataset   a classifier for each dataset's labels on one network; the dataset is known when it is used
drop          the classes that two datasets can express; labels that fit into none are ignored
specialists   a network for each dataset, with the images that the joint network sees of it
unseen        a network for each dataset, trained on all others and scored on it alone
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import Experiment
from heteroseg.labels.space import LabelSpace, LabelSpaceFile
from heteroseg.labels.taxonomy import ROOT, Taxonomy, TaxonomyFile


@dataclass(frozen=True)
class Base:
    """What every way starts from; `spaces` by dataset, `images_per_dataset` the images of each dataset in a batch."""

    experiment: Experiment
    tree: Taxonomy
    spaces: dict[str, LabelSpace]
    images_per_dataset: dict[str, int]


@dataclass(frozen=True)
class Part:
    """One network to train: an experiment with the files that it names."""

    name: str
    experiment: Experiment
    tree: TaxonomyFile
    spaces: dict[str, LabelSpaceFile]


def _part(name: str, base: Base, tree: TaxonomyFile, spaces: dict[str, LabelSpaceFile], **changes: Any) -> Part:
    """The base experiment over another tree; `changes` replace keys of its sections, as `loss={"gate": "hard"}`."""
    experiment = base.experiment
    datasets = {
        d: c.model_copy(update={"label_space": f"label_spaces/{d}.yaml"})
        for d, c in experiment.datasets.items()
        if d in spaces
    }
    sections = {key: getattr(experiment, key).model_copy(update=value) for key, value in changes.items()}
    update = {"name": f"{experiment.name}-{name}", "taxonomy": "taxonomy.yaml", "datasets": datasets, **sections}
    return Part(name, experiment.model_copy(update=update), tree, spaces)


def _relabel(
    space: LabelSpace, tree: TaxonomyFile, nodes: Sequence[list[str]], gate: str = ROOT, **changes: Any
) -> LabelSpaceFile:
    """The label space over another tree: `nodes` names what each label means there.

    Boxes become plain rectangles that train everything from `gate` down, as a network without a tree must take them.
    """
    entries = []
    for entry, names in zip(space.file.labels, nodes, strict=True):
        update: dict[str, Any] = {"shape": "rectangle"}
        if not entry.ignore:
            update |= {"nodes": names} if names else {"nodes": None, "ignore": True, "evaluate": False}
        entries.append(entry.model_copy(update=update))
    plain: dict[str, Any] = {"taxonomy": tree.name, "gate": gate, "around_boxes": None, "assume": [], "coverage": {}}
    return space.file.model_copy(update={**plain, "labels": entries, **changes})


def _plain_loss(base: Base) -> dict[str, Any]:
    """Weights by classifier mean nothing over another tree; those of labels stay where the label exists."""
    names = {f"{d}/{label.name}" for d, s in base.spaces.items() for label in s.labels}
    kept = {n: w for n, w in base.experiment.loss.class_weights.items() if n in names}
    return {"weights": {}, "box_weights": {}, "class_weights": kept, "gate": "open"}


def hierarchical(base: Base) -> list[Part]:
    """The experiment itself."""
    return [_part("hierarchical", base, base.tree.to_file(), {d: s.file for d, s in base.spaces.items()})]


def iv2018(base: Base) -> list[Part]:
    """Its schedule is stretched over the experiment's steps; batch, crops and backbone are the experiment's."""
    steps = base.experiment.train.steps
    spaces = {}
    for d, s in base.spaces.items():
        labels = [entry.model_copy(update={"shape": "rectangle"}) for entry in s.file.labels]
        spaces[d] = s.file.model_copy(update={"gate": None, "around_boxes": None, "labels": labels})
    part = _part(
        "iv2018",
        base,
        base.tree.to_file(),
        spaces,
        model={"void": True},
        loss=_plain_loss(base) | {
            "gate": "hard", "normalise": "classifier", "balance": 0.0, "class_weights": {},
            "weights": {"root": 1.0, "default": 0.1},
        },
        optimiser={
            "name": "sgd", "lr": 0.01, "backbone_lr": 1.0, "momentum": 0.9, "weight_decay": 1.7e-4, "warmup": 0,
            "clip": 0.0, "schedule": "piecewise", "power": 0.9, "halve_at": [steps * 8 // 17, steps * 15 // 17],
        },
        train={"ema": 0.9},
        evaluate={"decision": "path"},
    )  # fmt: skip
    return [part]


def flat(base: Base) -> list[Part]:
    """One softmax over the leaves."""
    names = [base.tree.names[leaf] for leaf in base.tree.leaves]
    tree = TaxonomyFile(name=f"{base.tree.name}-flat", tree={ROOT: names})
    spaces = {
        d: _relabel(s, tree, [[names[leaf] for leaf in sorted(label.leaves)] for label in s.labels])
        for d, s in base.spaces.items()
    }
    return [_part("flat", base, tree, spaces, loss=_plain_loss(base))]


def concat(base: Base) -> list[Part]:
    """One softmax over all labels; equal names, whatever their case, are one class."""
    classes: dict[str, str] = {}
    for space in base.spaces.values():
        for label in space.labels:
            if label.leaves:
                classes.setdefault(label.name.casefold(), label.name)
    tree = TaxonomyFile(name=f"{base.tree.name}-concat", tree={ROOT: list(classes.values())})
    spaces = {
        d: _relabel(s, tree, [[classes.get(label.name.casefold(), "")] for label in s.labels])
        for d, s in base.spaces.items()
    }
    return [_part("concat", base, tree, spaces, loss=_plain_loss(base))]


def per_dataset(base: Base) -> list[Part]:
    """A softmax for each dataset, below a root that nothing trains."""
    classes = {d: [f"{d}: {label.name}" for label in s.labels if label.leaves] for d, s in base.spaces.items()}
    tree = TaxonomyFile(name=f"{base.tree.name}-per-dataset", tree={ROOT: list(classes), **classes})
    spaces = {
        d: _relabel(s, tree, [[f"{d}: {label.name}"] for label in s.labels], gate=d, assume=[d])
        for d, s in base.spaces.items()
    }
    return [_part("per_dataset", base, tree, spaces, loss=_plain_loss(base) | {"weights": {ROOT: 0.0}})]


def common_classes(spaces: list[LabelSpace]) -> dict[str, frozenset[int]]:
    """The finest disjoint classes that at least two label spaces can express by whole labels, as sets of leaves."""
    meanings: dict[frozenset[int], str] = {}
    for space in spaces:
        for label in space.labels:
            if label.leaves:
                meanings.setdefault(label.leaves, label.name)

    def expressed(leaves: frozenset[int], space: LabelSpace) -> bool:
        parts = [label.leaves for label in space.labels if label.leaves and label.leaves <= leaves]
        return frozenset().union(*parts) == leaves

    result: dict[str, frozenset[int]] = {}
    for leaves in sorted(meanings, key=len):
        shared = sum(expressed(leaves, space) for space in spaces) >= 2
        if shared and not any(leaves & taken for taken in result.values()) and meanings[leaves] not in result:
            result[meanings[leaves]] = leaves
    return result


def drop(base: Base) -> list[Part]:
    """A class is shown as the label of its name, else as the one that means the same, else as the first within it."""
    classes = common_classes(list(base.spaces.values()))
    if len(classes) < 2:
        raise HeterosegError("way 'drop': no two classes can be expressed by two datasets each; leave this way out")
    tree = TaxonomyFile(name=f"{base.tree.name}-common", tree={ROOT: list(classes)})
    spaces = {}
    for d, space in base.spaces.items():
        within = {
            c: [i for i, label in enumerate(space.labels) if label.leaves and label.leaves <= leaves]
            for c, leaves in classes.items()
        }
        home = {i: c for c, members in within.items() for i in members}
        file = _relabel(space, tree, [[home[i]] if i in home else [] for i in range(len(space.labels))])
        for c, members in within.items():

            def fit(i: int, c: str = c, space: LabelSpace = space) -> tuple[bool, bool]:
                return space.labels[i].name.casefold() != c.casefold(), space.labels[i].leaves != classes[c]

            shown = min(members, key=fit, default=None)
            for i in members:
                file.labels[i] = file.labels[i].model_copy(update={"evaluate": i == shown})
        spaces[d] = file
    return [_part("drop", base, tree, spaces, loss=_plain_loss(base))]


def specialists(base: Base) -> list[Part]:
    """A network for each dataset with training images, with as many of them in a batch as the joint network has."""
    parts = []
    for d, space in base.spaces.items():
        if not base.images_per_dataset[d]:
            continue
        names = [label.name for label in space.labels if label.leaves]
        tree = TaxonomyFile(name=f"{base.tree.name}-{d}", tree={ROOT: names})
        spaces = {d: _relabel(space, tree, [[label.name] for label in space.labels])}
        loss = _plain_loss(base)
        loss["class_weights"] = {n: w for n, w in loss["class_weights"].items() if n.startswith(f"{d}/")}
        parts.append(
            _part(f"specialists-{d}", base, tree, spaces, loss=loss, train={"batch": base.images_per_dataset[d]})
        )
    return parts


def unseen(base: Base) -> list[Part]:
    """Batches keep their size, so the other datasets are seen more often."""
    parts = []
    for d in base.spaces:
        part = _part(f"unseen-{d}", base, base.tree.to_file(), {x: s.file for x, s in base.spaces.items()})
        for x, config in part.experiment.datasets.items():
            part.experiment.datasets[x] = config.model_copy(update={"train": None} if x == d else {"val": None})
        if any(c.train for c in part.experiment.datasets.values()):
            parts.append(part)
    return parts


WAYS: dict[str, Callable[[Base], list[Part]]] = {
    way.__name__: way for way in (hierarchical, iv2018, flat, concat, per_dataset, drop, specialists, unseen)
}

__all__ = ["WAYS", "Base", "Part", "common_classes"]
