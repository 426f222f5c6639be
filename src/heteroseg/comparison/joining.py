"""The other ways to train on several datasets, as settings of the same machine: another tree, other label spaces.

Each way turns an experiment into one or more that `heteroseg train` runs as they are. Labels keep their ids and order,
so that predictions of all ways are scored by the same tables.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

from heteroseg.errors import HeterosegError, nearest
from heteroseg.experiment.config import Experiment, ModelConfig
from heteroseg.labels.space import Label, LabelSpace, LabelSpaceFile
from heteroseg.labels.taxonomy import ROOT, Taxonomy, TaxonomyFile

UNBRANCHED: dict[str, Any] = {"branches": [], "branch_gradient": ModelConfig().branch_gradient}


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
    datasets = {d: c for d, c in experiment.datasets.items() if d in spaces}
    datasets = {d: c.model_copy(update={"label_space": f"label_spaces/{d}.yaml"}) for d, c in datasets.items()}
    sections = {key: getattr(experiment, key).model_copy(update=value) for key, value in changes.items()}
    update = {"name": f"{experiment.name}-{name}", "taxonomy": "taxonomy.yaml", "datasets": datasets, **sections}
    return Part(name, experiment.model_copy(update=update), tree, spaces)


def _over_tree(name: str, base: Base, tree: TaxonomyFile, nodes: dict[str, list[list[str]]], **changes: Any) -> Part:
    """The datasets of `nodes` over another tree, with the nodes that each of their labels means there.

    Labels without a node are ignored. Boxes become plain rectangles that train everything, as a network without a tree
    must take them. Weights and branches by classifier mean nothing over another tree; weights of labels stay where the
    label exists, and what is pasted is named by labels.
    """
    plain: dict[str, Any] = {"taxonomy": tree.name, "gate": ROOT, "around_boxes": None, "assume": [], "coverage": {}}
    ignored = {"nodes": None, "ignore": True, "evaluate": False}
    spaces = {}
    for d, nodes_of_labels in nodes.items():
        file, entries = base.spaces[d].file, []
        for entry, names in zip(file.labels, nodes_of_labels, strict=True):
            meaning = {} if entry.ignore else {"nodes": names} if names else ignored
            entries.append(entry.model_copy(update={"shape": "rectangle", **meaning}))
        spaces[d] = file.model_copy(update=plain | {"labels": entries})
    labels = {f"{d}/{label.name}" for d in nodes for label in base.spaces[d].labels}
    kept = {label: w for label, w in base.experiment.loss.class_weights.items() if label in labels}
    loss = {"weights": {}, "box_weights": {}, "class_weights": kept, "gate": "open"} | changes.pop("loss", {})
    part = _part(name, base, tree, spaces, loss=loss, model=UNBRANCHED, **changes)
    for d, config in part.experiment.datasets.items():
        pasted = [label.name for name in config.paste_of for label in base.spaces[d].named(name)]
        part.experiment.datasets[d] = config.model_copy(update={"paste_of": pasted})
    return part


def _labels(spaces: Iterable[LabelSpace]) -> list[Label]:
    """All labels of the spaces that mean something."""
    return [label for space in spaces for label in space.labels if label.leaves]


def hierarchical(base: Base) -> list[Part]:
    """The experiment itself."""
    return [_part("hierarchical", base, base.tree.to_file(), {d: s.file for d, s in base.spaces.items()})]


def iv2018(base: Base) -> list[Part]:
    """Meletis & Dubbelman, IV 2018: void logits, lambda 1 and 0.1, mean per classifier, hard gate, SGD.

    Its schedule is stretched over the experiment's steps; batch, crops and backbone are the experiment's.
    """
    steps = base.experiment.train.steps
    spaces = {}
    for d, s in base.spaces.items():
        labels = [entry.model_copy(update={"shape": "rectangle"}) for entry in s.file.labels]
        spaces[d] = s.file.model_copy(update={"gate": None, "around_boxes": None, "labels": labels})
    loss = {"gate": "hard", "normalise": "classifier", "weights": {"root": 1.0, "default": 0.1}, "balance": 0.0}
    sgd = {"name": "sgd", "lr": 0.01, "backbone_lr": 1.0, "momentum": 0.9, "weight_decay": 1.7e-4, "clip": 0.0}
    halve_at = [steps * 8 // 17, steps * 15 // 17]
    changes: dict[str, Any] = {"train": {"ema": 0.9, "freeze_norm": False}, "evaluate": {"decision": "path"}}
    changes |= {"model": UNBRANCHED | {"void": True}, "loss": loss | {"box_weights": {}, "class_weights": {}}}
    changes["optimiser"] = sgd | {"warmup": 0, "schedule": "piecewise", "power": 0.9, "halve_at": halve_at}
    return [_part("iv2018", base, base.tree.to_file(), spaces, **changes)]


def flat(base: Base) -> list[Part]:
    """One softmax over the leaves; a label is the sum of its leaves."""
    names = [base.tree.names[leaf] for leaf in base.tree.leaves]
    tree = TaxonomyFile(name=f"{base.tree.name}-flat", tree={ROOT: names})
    nodes = {d: [[names[leaf] for leaf in sorted(b.leaves)] for b in s.labels] for d, s in base.spaces.items()}
    return [_over_tree("flat", base, tree, nodes)]


def concat(base: Base) -> list[Part]:
    """One softmax over all labels; equal names, whatever their case, are one class: the paper's flat baseline."""
    classes: dict[str, str] = {}
    for label in _labels(base.spaces.values()):
        classes.setdefault(label.name.casefold(), label.name)
    tree = TaxonomyFile(name=f"{base.tree.name}-concat", tree={ROOT: list(classes.values())})
    nodes = {d: [[classes.get(b.name.casefold(), "")] for b in s.labels] for d, s in base.spaces.items()}
    return [_over_tree("concat", base, tree, nodes)]


def per_dataset(base: Base) -> list[Part]:
    """A softmax for each dataset, below a root that nothing trains; the dataset is known when the network is used."""
    classes = {d: [f"{d}: {label.name}" for label in _labels([s])] for d, s in base.spaces.items()}
    tree = TaxonomyFile(name=f"{base.tree.name}-per-dataset", tree={ROOT: list(classes), **classes})
    nodes = {d: [[f"{d}: {label.name}"] for label in s.labels] for d, s in base.spaces.items()}
    part = _over_tree("per_dataset", base, tree, nodes, loss={"weights": {ROOT: 0.0}})
    for d, file in part.spaces.items():
        part.spaces[d] = file.model_copy(update={"gate": d, "assume": [d]})
    return [part]


def common_classes(spaces: Collection[LabelSpace]) -> dict[str, frozenset[int]]:
    """The finest disjoint classes that at least two label spaces can express by whole labels, as sets of leaves."""
    meanings: dict[frozenset[int], str] = {}
    for label in _labels(spaces):
        meanings.setdefault(label.leaves, label.name)

    def expressed(leaves: frozenset[int], space: LabelSpace) -> bool:
        parts = [label.leaves for label in space.labels if label.leaves <= leaves]
        return frozenset().union(*parts) == leaves

    result: dict[str, frozenset[int]] = {}
    for leaves in sorted(meanings, key=len):
        shared = sum(expressed(leaves, space) for space in spaces) >= 2
        if shared and not any(leaves & taken for taken in result.values()) and meanings[leaves] not in result:
            result[meanings[leaves]] = leaves
    return result


def drop(base: Base) -> list[Part]:
    """The classes that two datasets can express; labels that fit into none are ignored.

    A class is shown as the label of its name, else as the one that means the same, else as the first within it.
    """
    classes = common_classes(base.spaces.values())
    if len(classes) < 2:
        raise HeterosegError("way 'drop': no two classes can be expressed by two datasets each; leave this way out")
    tree = TaxonomyFile(name=f"{base.tree.name}-common", tree={ROOT: list(classes)})
    nodes = {
        d: [[c for c, leaves in classes.items() if label.leaves and label.leaves <= leaves] for label in space.labels]
        for d, space in base.spaces.items()
    }
    part = _over_tree("drop", base, tree, nodes)
    for d, file in part.spaces.items():
        labels = base.spaces[d].labels
        for c, leaves in classes.items():
            members = [i for i, names in enumerate(nodes[d]) if c in names]
            fits = [(labels[i].name.casefold() != c.casefold(), labels[i].leaves != leaves, i) for i in members]
            for i in members:
                file.labels[i] = file.labels[i].model_copy(update={"evaluate": i == min(fits)[-1]})
    return [part]


def specialists(base: Base) -> list[Part]:
    """A network for each dataset with training images, with as many of them in a batch as the joint network has."""
    parts = []
    for d, images in base.images_per_dataset.items():
        if images:
            space = base.spaces[d]
            tree = TaxonomyFile(name=f"{base.tree.name}-{d}", tree={ROOT: [label.name for label in _labels([space])]})
            nodes = {d: [[label.name] for label in space.labels]}
            parts.append(_over_tree(f"specialists-{d}", base, tree, nodes, train={"batch": images}))
    return parts


def _leave_one_out(name: str, base: Base, whole: Part) -> list[Part]:
    """`whole` for each dataset, trained on all others and scored on it alone.

    Batches keep their size, so the other datasets are seen more often.
    """
    parts = []
    for d in base.spaces:
        datasets = {
            x: c.model_copy(update={"train": None} if x == d else {"val": None})
            for x, c in whole.experiment.datasets.items()
        }
        if datasets[d].val and any(c.train for c in datasets.values()):
            update = {"name": f"{base.experiment.name}-{name}-{d}", "datasets": datasets}
            experiment = whole.experiment.model_copy(update=update)
            parts.append(replace(whole, name=f"{name}-{d}", experiment=experiment))
    return parts


def unseen(base: Base) -> list[Part]:
    """The experiment itself without one dataset, for each of them."""
    return _leave_one_out("unseen", base, *hierarchical(base))


def unseen_flat(base: Base) -> list[Part]:
    """The way `flat` without one dataset, for each of them."""
    return _leave_one_out("unseen_flat", base, *flat(base))


_WAYS = (hierarchical, iv2018, flat, concat, per_dataset, drop, specialists, unseen, unseen_flat)
WAYS: dict[str, Callable[[Base], list[Part]]] = {way.__name__: way for way in _WAYS}
LEAVE_ONE_OUT = ("unseen", "unseen_flat")  # the ways that are run where they are asked for


def require_way(way: str) -> str:
    """The way that a word of --ways names, perhaps with one of its datasets (specialists-gtsdb)."""
    name = way.partition("-")[0]
    if name not in WAYS:
        raise HeterosegError(f"--ways: there is no way {way!r}{nearest(way, WAYS)}; there are {', '.join(WAYS)}")
    return name


def parts_of(base: Base, way: str) -> dict[str, Part]:
    """The networks of a way, or the one that `way` names, by the place of their folders below OUT."""
    name = require_way(way)
    every = WAYS[name](base)
    places = {f"{name}/{part.name}" if len(every) > 1 else name: part for part in every}
    chosen = {place: part for place, part in places.items() if way in (name, part.name)}
    if not chosen:
        known = [part.name for part in every if part.name != name]
        told = f"it has {', '.join(known)}" if known else "it is one network for all datasets"
        raise HeterosegError(f"--ways: {name} has no network {way!r}; {told}")
    return chosen
