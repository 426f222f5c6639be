"""What an experiment names: its taxonomy, its label spaces, its datasets on disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from heteroseg.datasets import list_items
from heteroseg.datasets.sample import Item
from heteroseg.errors import HeterosegError, nearest
from heteroseg.experiment.config import DatasetConfig, Experiment, dataset_root
from heteroseg.labels.space import LabelSpace, hold_out, load_label_space
from heteroseg.labels.taxonomy import Taxonomy, load_taxonomy


@dataclass
class Source:
    """One dataset of an experiment, found on disk and tied to the taxonomy."""

    name: str
    config: DatasetConfig
    space: LabelSpace
    train: list[Item]
    val: list[Item]


def open_spaces(experiment: Experiment, folder: Path) -> tuple[Taxonomy, list[LabelSpace]]:
    """The taxonomy and the label space of each dataset; all faults of all files are raised together."""
    tree = load_taxonomy(experiment.taxonomy, folder, experiment.model.void)
    if unknown := [n for n in experiment.hold_out if n not in tree]:
        told = "is no node of taxonomy"
        raise HeterosegError(*(f"hold_out: {n!r} {told} {tree.name!r}{nearest(n, tree.names)}" for n in unknown))
    spaces, faults = list[LabelSpace](), list[str]()
    for config in experiment.datasets.values():
        try:
            space = load_label_space(config.label_space, tree, folder)
            spaces.append(hold_out(space, experiment.hold_out))
        except HeterosegError as error:
            faults.extend(error.faults)
    if faults:
        raise HeterosegError(*faults)
    return tree, spaces


def open_sources(experiment: Experiment, folder: Path, splits: Sequence[str] = ("train", "val")) -> list[Source]:
    """List the images of every dataset of an experiment; nothing is decoded yet."""
    _, spaces = open_spaces(experiment, folder)
    sources: list[Source] = []
    faults: list[str] = []
    for (name, config), space in zip(experiment.datasets.items(), spaces, strict=True):
        root = dataset_root(experiment, config, folder)
        lists: dict[str, list[Item]] = {"train": [], "val": []}
        for part in splits:
            split = getattr(config, part)
            try:
                lists[part] = list_items(config.reader, root, split, config.options) if split else []
            except HeterosegError as error:
                faults.extend(f"datasets.{name}: {fault}" for fault in error.faults)
        sources.append(Source(name, config, space, **lists))
    if faults:
        raise HeterosegError(*dict.fromkeys(faults))
    return sources


def source_named(sources: Sequence[Source], name: str) -> Source:
    """The dataset of that name; an unknown one raises with the nearest."""
    by_name = {s.name: s for s in sources}
    if name not in by_name:
        raise HeterosegError(
            f"the experiment has no dataset {name!r}{nearest(name, by_name)}; it has {', '.join(by_name)}"
        )
    return by_name[name]
