"""The page of `data show`: images as the network will see them, and what each of their pixels teaches."""

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heteroseg.curation.show import Entry, legend_of, numbered
from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import Experiment
from heteroseg.experiment.sources import Source
from heteroseg.labels.taxonomy import Taxonomy
from heteroseg.report.examples import WIDEST, pack, photo_uri
from heteroseg.report.page import page_colors, write_page
from heteroseg.report.statistics import count
from heteroseg.supervision.targets import Target
from heteroseg.training.batches import TrainingDraws

SHOWN = 12  # crops of each dataset


def _placed(
    values: np.ndarray, owner: int, sources: Sequence[Source], starts: Sequence[int], known: list[Entry]
) -> np.ndarray:
    """Running label numbers as places in a dataset's legend `known`, which grows with what is pasted from others.

    What is below 0 stays as it is.
    """
    result = values.copy()
    for label in np.unique(values[values >= 0]).tolist():
        of = bisect_right(starts, label) - 1
        place = label - starts[of]
        if of != owner:
            entry = legend_of(sources[of].space)[place]
            entry = entry | {"label": f"{sources[of].name}: {entry['label']}"}
            known += [entry] * (entry not in known)
            place = known.index(entry)
        result[values == label] = place
    return result


def _crops(experiment: Experiment, sources: Sequence[Source]) -> list[tuple[list[Entry], list[dict[str, Any]]]]:
    """For each dataset its legend, and the first crops that a training of the experiment would draw."""
    t = experiment.train
    result: list[tuple[list[Entry], list[dict[str, Any]]]] = [(legend_of(s.space), []) for s in sources]
    if not any(s.train for s in sources):
        return result
    batch = max(t.batch, len(sources))  # one of each at least
    draws = TrainingDraws(sources, batch, t.crop, t.color, t.seed, experiment.augment)
    wanted = [SHOWN if s.train else 0 for s in sources]
    for index in range(SHOWN * batch):
        owner = int(draws.owner[index % batch])
        known, crops = result[owner]
        if len(crops) < wanted[owner]:
            drawn = draws[index]
            if isinstance(drawn, HeterosegError):
                raise drawn
            image, mask, boxes, name, mixtures = drawn
            start = draws.offsets[owner]
            mixed = tuple(tuple((w, tuple(label - start for label in of)) for w, of in mixture) for mixture in mixtures)
            first, second = (_placed(each.numpy(), owner, sources, draws.offsets, known) for each in (mask, boxes))
            shown = numbered(Target(first, second, mixed), sources[owner].space, known)
            pixels = image.numpy().transpose(1, 2, 0)
            width, height, packed = pack(WIDEST, [shown - 1])
            crop = {"name": Path(name).name, "photo": photo_uri(pixels, WIDEST), "maps": packed}
            crops.append(crop | {"width": width, "height": height, "known": float((shown > 0).mean())})
    return result


def _colored(entries: Sequence[Entry], tree: Taxonomy, colors: dict[frozenset[int], Any]) -> list[dict[str, Any]]:
    """The legend with the colour of what is taught, and the nodes as numbers."""
    result = []
    for entry in entries:
        nodes = [tree.index(name) for name in entry["nodes"]]
        color = colors.get(frozenset().union(*(tree.leaves_of(n) for n in nodes)), (150, 150, 150))
        result.append(entry | {"color": color, "numbers": nodes})
    return result


def write_data_page(experiment: Experiment, sources: Sequence[Source], path: Path) -> None:
    """Write the page: for each dataset how often its labels occur, and crops with what they teach."""
    tree = sources[0].space.taxonomy
    colors = page_colors(tree, [s.space for s in sources])
    datasets = []
    for source, (known, crops) in zip(sources, _crops(experiment, sources), strict=True):
        told = count(source) if source.train else {"shares": {}, "boxes": {}, "sampled": 0}
        entries = _colored(known, tree, colors)
        datasets.append({"name": source.name, "space": source.space, "entries": entries, "crops": crops} | told)
    world = {"names": tree.names, "parents": tree.parents, "legends": {d["name"]: d["entries"] for d in datasets}}
    write_page(path, "data.html", experiment=experiment, datasets=datasets, world=world)
