"""Subclasses for the regions of a coarse label: the network proposes, a person confirms, the masks are extended.

So the authors of IV 2018 gave Cityscapes 43 types of signs. A region is an 8-connected part of a mask with one label.
`find_regions` writes DIR/blobs.csv with contact sheets. A person looks at them and fills in the column `confirmed`:
`yes` takes the proposal, the name of a subclass that one, `no` or nothing leaves the region as it is.
"""

import csv
from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path

import cv2
import numpy as np
from pydantic import BaseModel

from heteroseg.curation.new_dataset import (
    Log,
    entry_of,
    finish_dataset,
    items_by_path,
    job_of,
    read_masked,
    require_places,
    with_unlabelled,
    write_item,
)
from heteroseg.datasets.encoding import write_image
from heteroseg.datasets.records import csv_records, integer
from heteroseg.errors import HeterosegError, counted, nearest, raise_faults
from heteroseg.evaluation.scores import require_tree_of
from heteroseg.experiment.sources import Source, source_named
from heteroseg.files import read_yaml, write_json
from heteroseg.labels.space import Label, LabelEntry, LabelSpace, build_label_space
from heteroseg.model.answer_files import decided_by
from heteroseg.model.model import Model
from heteroseg.model.pictures import cut_out
from heteroseg.model.prediction import Prediction
from heteroseg.writing import filling, is_free, written

COLUMNS = ("number", "image", "x", "y", "width", "height", "pixels", "proposal", "probability", "confirmed")
PLACE = COLUMNS[2:7]  # what tells a region from the others of its image
TILE, ACROSS, DOWN = 180, 6, 5  # contact sheets: pixels of a cut-out, cut-outs in a row, rows

Place = tuple[int, ...]


class ReviewFile(BaseModel):
    """What blobs.json holds; `least` is the number of pixels of the smallest region that was listed."""

    dataset: str
    label: str
    least: int
    model: str
    model_digest: str
    subclasses: list[LabelEntry]


def components(mask: np.ndarray, value: int, min_pixels: int) -> tuple[np.ndarray, dict[int, Place]]:
    """The 8-connected regions where `mask` (H, W) is `value`.

    Returns (H, W) int32 with the number of each pixel's region, 0 elsewhere, and for the regions of `min_pixels` or
    more their x, y, width, height and number of pixels.
    """
    total, numbers, stats, _ = cv2.connectedComponentsWithStats((mask == value).astype(np.uint8), connectivity=8)
    large = (i for i in range(1, total) if stats[i, cv2.CC_STAT_AREA] >= min_pixels)
    return numbers, {i: tuple(stats[i].tolist()) for i in large}


def subclasses(label: Label, fine: LabelSpace) -> list[Label]:
    """The labels of `fine` that lie in `label` and are not all of it. Raises HeterosegError if there are none."""
    inside = [other for other in fine.labels if other.leaves and other.leaves < label.leaves]
    if not inside:
        told = f"has no label inside {label.name!r}, so there is no subclass to propose; name a finer one with --labels"
        raise HeterosegError(f"label space {fine.name!r} {told}")
    return inside


def proposals(
    prediction: Prediction, numbers: np.ndarray, label: Label, choices: Sequence[Label], fine: LabelSpace
) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest of `choices`, labels of `fine`, for each region; `numbers` (H, W) int are the regions, 0 the rest.

    Returns (regions + 1,) int64 indices into `choices`, and float64 p(choice | label): the mean probability over the
    region divided by that of the label. A leaf counts for the narrowest choice.
    """
    means = prediction.mean_probs(numbers)
    whole = means[:, sorted(label.leaves)].sum(1)
    places = [fine.labels.index(choice) for choice in choices]
    shares = fine.shown_table[places] @ means.T / np.maximum(whole, 1e-12)
    best = shares.argmax(0)
    return best, shares[best, np.arange(len(means))]


def _label_named(source: Source, name: str) -> Label:
    names = [label.name for label in source.space.labels]
    if name not in names:
        raise HeterosegError(f"label space {source.space.name!r} has no label {name!r}{nearest(name, names)}")
    return source.space.labels[names.index(name)]


def _write_sheet(path: Path, tiles: Sequence[tuple[np.ndarray, str]]) -> None:
    """Write up to ACROSS * DOWN cut-outs with a line of text under each as one picture, row by row."""
    page = np.full((DOWN * TILE, ACROSS * TILE, 3), 250, np.uint8)
    for i, (picture, text) in enumerate(tiles):
        tile = page[i // ACROSS * TILE :, i % ACROSS * TILE :][:TILE, :TILE]
        tile[: picture.shape[0], : picture.shape[1]] = picture
        plain = text.encode("ascii", "replace").decode()[:27]
        cv2.putText(tile, plain, (3, TILE - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (20, 20, 20), 1, cv2.LINE_AA)
    write_image(path, page)


def _subclass_entries(space: LabelSpace, fine: LabelSpace, choices: Sequence[Label]) -> list[LabelEntry]:
    """The subclasses as lines of a label space file; an id that `space` uses already is replaced by a free one."""
    taken = set(space.ids.tolist())
    free = count(max(taken | set(fine.ids.tolist())) + 1)
    ids = [next(free) if label.id in taken else label.id for label in choices]
    return [entry_of(label, space.taxonomy, id=i, evaluate=True) for label, i in zip(choices, ids, strict=True)]


def _proposed(
    model: Model, source: Source, label: Label, choices: Sequence[Label], fine: LabelSpace, min_pixels: int
) -> Iterator[tuple[list, tuple[np.ndarray, str]]]:
    """The line of blobs.csv of every region, and its cut-out with what stands under it."""
    lines = count(1)
    for path, item in items_by_path(source):
        image, mask = read_masked(item)
        numbers, regions = components(mask, label.id, min_pixels)
        if regions:
            best, probs = proposals(model.predict(image), numbers, label, choices, fine)
        for i, place in regions.items():
            line, proposal = next(lines), choices[best[i]].name
            picture = cut_out(image, numbers == i, place[:4], TILE, TILE - 22)
            tile = (picture, f"{line} {proposal} {probs[i]:.0%}")
            yield [line, path, *place, proposal, f"{probs[i]:.4f}", ""], tile


def find_regions(
    model: Model, source: Source, name: str, fine: LabelSpace, out: Path, min_pixels: int, log: Log
) -> None:
    """List the regions of the label `name` with a proposal among the labels of `fine`.

    Writes OUT/blobs.csv, one line a region, OUT/blobs.json, which `apply_regions` needs, and the contact sheets
    OUT/sheet-NNN.jpg with the numbers of the lines. What a stopped run of the same began in `out` is finished; other
    folders that are not empty raise HeterosegError.
    """
    require_tree_of(model, source, "use")
    label = _label_named(source, name)
    choices = subclasses(label, fine)
    rows: list[list] = []
    proposed, sheets = _proposed(model, source, label, choices, fine, min_pixels), 0
    about = {"dataset": source.name, "label": name, "least": min_pixels}
    about |= {"model": model.name, "model_digest": model.digest}
    with filling(out, job_of("blobs find", [source], **about, decided=decided_by(model, fine))):
        while part := list(islice(proposed, ACROSS * DOWN)):
            sheets += 1
            rows += [row for row, _ in part]
            _write_sheet(out / f"sheet-{sheets:03d}.jpg", [tile for _, tile in part])
        if not rows:
            none = f"no image has a region of {name!r} with {min_pixels} pixels or more"
            raise HeterosegError(f"datasets.{source.name}: {none}; lower --least, or choose another --label")
        review = ReviewFile(**about, subclasses=_subclass_entries(source.space, fine, choices))
        write_json(out / "blobs.json", review.model_dump())
        if is_free(out / "blobs.csv"):  # else a person may have begun to fill it in
            with written(out / "blobs.csv") as part_file, part_file.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    log(f"{counted(len(rows), 'region')} of {name!r} in {out}/blobs.csv and {counted(sheets, 'sheet')}")


def _read_confirmed(path: Path, names: Sequence[str]) -> dict[tuple[str, Place], tuple[str, str]]:
    """The confirmed regions by image and place: the subclass and `file:line`. All faults are raised at once."""
    confirmed, faults = {}, []
    for where, cells in csv_records(path, COLUMNS):
        _, image, *place, proposal, _, answer = (cell or "" for cell in cells)
        answer = answer.strip()
        subclass = proposal if answer.lower() == "yes" else answer
        if answer.lower() in ("", "no"):
            continue
        if subclass not in names:
            expected = f"{where}: confirmed must be yes, no, nothing or a subclass"
            faults.append(f"{expected}, found {subclass!r}{nearest(subclass, names)}")
        elif None in map(integer, place):
            faults.append(f"{where}: {', '.join(PLACE)} must be whole numbers, as find wrote them")
        else:
            confirmed[image, tuple(map(int, place))] = (subclass, where)
    if not confirmed and not faults:
        faults.append(f"{path}: no region is confirmed; write yes or the name of a subclass into `confirmed`")
    raise_faults(faults)
    return confirmed


def apply_regions(sources: Sequence[Source], folder: Path, out: Path, log: Log) -> None:
    """Write a dataset for the reader `folder` whose masks hold the confirmed subclasses.

    `folder` is what `find_regions` wrote. A line of blobs.csv that is no region of the masks any more raises
    HeterosegError before anything is written.
    """
    review = read_yaml(folder / "blobs.json").parse(ReviewFile)
    ids = {entry.name: entry.id for entry in review.subclasses}
    source = source_named(sources, review.dataset)
    label = _label_named(source, review.label)
    confirmed = _read_confirmed(folder / "blobs.csv", list(ids))
    space = _extended(source.space, label, review.subclasses)
    images, items = {image for image, _ in confirmed}, items_by_path(source)
    gone = set(confirmed)
    for path, item in items:
        if path in images:
            _, regions = components(read_masked(item)[1], label.id, review.least)
            gone -= {(path, place) for place in regions.values()}
    if gone:
        faults = [f"{confirmed[key][1]}: {key[0]} has no such region of {label.name!r} any more" for key in gone]
        raise HeterosegError(*sorted(faults), "the masks have changed since `blobs find`; run it again")
    require_places(out, [path for path, _ in items])
    answers = sorted([*key, subclass] for key, (subclass, _) in confirmed.items())
    with filling(out, job_of("blobs apply", [source], review=review.model_dump(), confirmed=answers)):
        for path, item in items:
            _, mask = read_masked(item)
            new = np.where(mask < 0, space.outside, mask)
            numbers, regions = components(mask, label.id, review.least) if path in images else (mask, {})
            for i, place in regions.items():
                if (path, place) in confirmed:
                    new[numbers == i] = ids[confirmed[path, place][0]]
            write_item(out, path, item, new)
        log(f"{out}: {counted(len(images), 'image')} with confirmed regions, {len(items)} in all")
        finish_dataset(source, out, space, log)


def _extended(space: LabelSpace, label: Label, entries: Sequence[LabelEntry]) -> LabelSpace:
    """The space with the subclasses. The label stays for its other regions, and is scored if a leaf is its alone."""
    tree = space.taxonomy
    covered = {leaf for entry in entries for node in entry.nodes or () for leaf in tree.leaves_of(tree.index(node))}
    labels = list(space.file.labels)
    if label.leaves <= covered:
        labels = [e.model_copy(update={"evaluate": False}) if e.name == label.name else e for e in labels]
    known = {entry.name for entry in labels}
    labels += [e.model_copy(update={"name": f"{e.name} ({label.name})"}) if e.name in known else e for e in entries]
    update = {"name": f"{space.name}-extended", "labels": labels, "outside": space.outside}
    return with_unlabelled(build_label_space(space.file.model_copy(update=update), tree))
