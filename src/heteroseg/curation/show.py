"""What every pixel of an experiment teaches, as maps of numbers and a legend."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heteroseg.curation.new_dataset import job_of
from heteroseg.datasets import read_annotation
from heteroseg.datasets.encoding import write_ids
from heteroseg.datasets.sample import spread_evenly
from heteroseg.errors import counted
from heteroseg.experiment.sources import Source
from heteroseg.files import write_json
from heteroseg.labels.space import LabelSpace
from heteroseg.supervision.label_terms import label_gate
from heteroseg.supervision.targets import MIXED, Mixture, Target, encode
from heteroseg.writing import filling

Entry = dict[str, Any]  # of a legend: the label and the nodes that it leaves


def legend_of(space: LabelSpace) -> list[Entry]:
    """What each number of a map teaches, from 1: the labels, and what surrounds boxes."""
    names = [label.name for label in space.labels] + ["(around boxes)"] * (space.targets - len(space.labels))
    own = [entry.node_names for entry in space.file.labels]
    entries = []
    for i, name in enumerate(names):
        leaves = np.asarray(space.training_table[i])
        plain = i < len(own) and bool((leaves == space.meaning_table[i]).all())
        entries.append({"label": name, "nodes": own[i] if plain else _nodes_of(leaves, space)})
    return entries


def _nodes_of(leaves: np.ndarray, space: LabelSpace) -> list[str]:
    return [space.taxonomy.names[node] for node in space.taxonomy.cover(np.flatnonzero(leaves).tolist())]


def _mixture_entry(mixture: Mixture, space: LabelSpace) -> Entry:
    """What a pixel teaches of which only alternatives are known: shares of boxes, or tags below their gates."""
    labels = sorted({label for _, members in mixture for label in members})
    name = " or ".join(space.labels[i].name for i in labels)
    alternatives = np.asarray(space.training_table[labels].any(0))
    if all(weight < 1 for weight, _ in mixture):
        return {"label": name, "nodes": _nodes_of(alternatives, space)}
    leaves = np.ones(len(alternatives), bool)
    for _, members in mixture:
        start, stop = space.taxonomy.spans[label_gate(space, members[0])]
        leaves[start:stop] &= alternatives[start:stop]
    return {"label": f"(tags) {name}", "nodes": _nodes_of(leaves, space)}


def numbered(target: Target, space: LabelSpace, known: list[Entry]) -> np.ndarray:
    """(H, W) int64 numbers of the legend `known`, which grows with the mixtures of the image; 0 where nothing is known.

    From the mask, and where that says nothing from the boxes in their drawn shapes.
    """
    shown = np.where(target.mask >= 0, target.mask, target.boxes).astype(np.int64) + 1
    for k, mixture in enumerate(target.mixtures):
        entry = _mixture_entry(mixture, space)
        known += [entry] * (entry not in known)
        shown[shown == MIXED - k + 1] = known.index(entry) + 1
    return shown


def show_data(
    sources: Sequence[Source],
    out: Path,
    images: int | None,
    log: Callable[[str], None],
    page: Callable[[Path], None] = lambda path: None,
) -> None:
    """Write OUT/maps.json, OUT/legend.json and a 16-bit map for each image, or for `images` of each split.

    A map is as large as its image, upright as it is trained; its numbers are those of `numbered`. `page` writes
    OUT/data.html. A folder with something in it raises HeterosegError, but for what a stopped run of the same began.
    """
    entries, legend = [], {}
    with filling(out, job_of("data show", sources, images=images)):
        for source in sources:
            space = source.space
            known = legend_of(space)
            for split in ("train", "val"):
                items = getattr(source, split)
                for i, item in enumerate(items if images is None else spread_evenly(items, images)):
                    shown = numbered(encode(read_annotation(item), space, 0), space, known)
                    path = Path("maps", source.name, split, f"{i:06d}.png")
                    write_ids(out / path, shown, bits=16)
                    entries.append({"dataset": source.name, "split": split, "image": str(item.image), "map": str(path)})
            legend[source.name] = {str(i): entry for i, entry in enumerate(known, 1)}
        page(out / "data.html")
        write_json(out / "legend.json", legend)
        write_json(out / "maps.json", entries)
    log(f"{counted(len(entries), 'map')}: {out / 'maps.json'}, {out / 'legend.json'}")
