"""Subclasses for the blobs of a coarse class: the network proposes, a person confirms, masks are extended.

So the authors of IV 2018 gave Cityscapes 43 types of signs. A blob is an 8-connected region of one label in one image.
`find_blobs` writes DIR/blobs.csv with contact sheets; who looks at them fills in the column `confirmed`: `yes` takes
the proposal, the name of a subclass that one, `no` or nothing leaves the blob as it was.
"""

import csv
import io
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from heteroseg.curation.spec_text import taxonomy_reference, write_taxonomy
from heteroseg.datasets import read_sample
from heteroseg.datasets.encoding import write_ids, write_image
from heteroseg.datasets.sample import Item
from heteroseg.errors import HeterosegError, nearest
from heteroseg.evaluation.scores import require_tree_of
from heteroseg.experiment.sources import Source, source_named
from heteroseg.files import read_text, require_empty, write_json, write_text, write_yaml, written
from heteroseg.inference.pictures import cut_out
from heteroseg.labels.space import Label, LabelEntry, LabelSpace, build_label_space
from heteroseg.model.model import Model
from heteroseg.model.prediction import Prediction

COLUMNS = ("number", "image", "x", "y", "width", "height", "pixels", "proposal", "probability", "confirmed")
TILE, ACROSS, DOWN = 180, 6, 5  # contact sheets: pixels of a cut-out, cut-outs in a row, rows


@dataclass(frozen=True)
class Blob:
    """`window` x, y, width, height in pixels; `pixels` of the label in it."""

    window: tuple[int, int, int, int]
    pixels: int


def components(mask: np.ndarray, value: int, least: int) -> tuple[np.ndarray, dict[int, Blob]]:
    """(H, W) int32 numbers of the 8-connected regions where `mask` (H, W) is `value`, and those of `least` pixels."""
    count, regions, stats, _ = cv2.connectedComponentsWithStats((mask == value).astype(np.uint8), connectivity=8)
    found = {}
    for i in range(1, count):
        x, y, width, height, pixels = stats[i].tolist()
        if pixels >= least:
            found[i] = Blob((x, y, width, height), pixels)
    return regions, found


def subclasses(label: Label, fine: LabelSpace) -> list[Label]:
    """The labels of `fine` that lie in `label` and are not all of it; none raises HeterosegError."""
    found = [b for b in fine.labels if b.leaves and b.leaves < label.leaves]
    if not found:
        raise HeterosegError(
            f"label space {fine.name!r} has no label inside {label.name!r}, so there is no subclass to propose; "
            "name a finer one with --labels"
        )
    return found


def proposals(
    said: Prediction, regions: np.ndarray, label: Label, choices: Sequence[Label]
) -> tuple[np.ndarray, np.ndarray]:
    """For each region number (0 is the background) the likeliest of `choices`, int64, and p(choice | label): the mean
    probability over the region divided by that of the label.
    """
    means = said.mean_probs(regions)
    whole = means[:, sorted(label.leaves)].sum(1)
    shares = np.array([means[:, sorted(c.leaves)].sum(1) for c in choices]) / np.maximum(whole, 1e-12)
    best = shares.argmax(0)
    return best, shares[best, np.arange(len(means))]


def _native(item: Item) -> tuple[np.ndarray, np.ndarray]:
    sample = read_sample(item)
    if sample.mask is None:
        raise HeterosegError(f"{item.image}: has no mask; blobs are regions of masks")
    return sample.image, sample.mask


def _parts(source: Source) -> list[tuple[str, Item]]:
    """`SPLIT/NAME` and item of every image."""
    parts = ((source.config.train, source.train), (source.config.val, source.val))
    return [(f"{split}/{item.name}", item) for split, items in parts for item in items]


def _tile(image: np.ndarray, region: np.ndarray, blob: Blob, text: str) -> np.ndarray:
    """(TILE, TILE, 3) uint8: the blob with some of its surroundings, outlined, with a line of text under it."""
    picture = cut_out(image, region, blob.window, TILE, TILE - 22)
    tile = np.full((TILE, TILE, 3), 250, np.uint8)
    tile[: picture.shape[0], : picture.shape[1]] = picture
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(tile, plain[:27], (3, TILE - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (20, 20, 20), 1, cv2.LINE_AA)
    return tile


def _write_sheet(path: Path, tiles: Sequence[np.ndarray]) -> None:
    page = np.full((DOWN * TILE, ACROSS * TILE, 3), 250, np.uint8)
    for i, tile in enumerate(tiles):
        row, column = i // ACROSS * TILE, i % ACROSS * TILE
        page[row : row + TILE, column : column + TILE] = tile
    with written(path) as temporary:
        write_image(temporary, page)


def find_blobs(
    model: Model,
    sources: Sequence[Source],
    dataset: str,
    name: str,
    fine: LabelSpace,
    out: Path,
    least: int,
    say: Callable[[str], None] = lambda _: None,
) -> int:
    """Write OUT/blobs.csv (one line a blob), OUT/blobs.json (what `apply_blobs` needs) and contact
    sheets OUT/sheet-NNN.jpg with the numbers of the lines. Returns how many blobs there are.
    """
    source = source_named(sources, dataset)
    space = source.space
    require_tree_of(model, source, "use")
    label = next((b for b in space.labels if b.name == name), None)
    if label is None:
        names = [b.name for b in space.labels]
        raise HeterosegError(f"label space {space.name!r} has no label {name!r}{nearest(name, names)}")
    choices = subclasses(label, fine)
    require_empty(out)
    rows: list[list] = []
    tiles: list[np.ndarray] = []
    sheets = 0
    for image_name, item in _parts(source):
        image, mask = _native(item)
        regions, found = components(mask, label.id, least)
        if not found:
            continue
        best, sure = proposals(model.predict(image), regions, label, choices)
        for i, blob in found.items():
            proposal = choices[best[i]].name
            rows.append([len(rows) + 1, image_name, *blob.window, blob.pixels, proposal, f"{sure[i]:.4f}", ""])
            tiles.append(_tile(image, regions == i, blob, f"{len(rows)} {proposal} {sure[i]:.0%}"))
            if len(tiles) == ACROSS * DOWN:
                sheets += 1
                _write_sheet(out / f"sheet-{sheets:03d}.jpg", tiles)
                tiles = []
    if not rows:
        raise HeterosegError(
            f"datasets.{dataset}: no image has a blob of {name!r} with {least} pixels or more; lower --least, or "
            "choose another --label"
        )
    if tiles:
        _write_sheet(out / f"sheet-{sheets + 1:03d}.jpg", tiles)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    taken, tree = {b.id for b in space.labels}, space.taxonomy
    entries: dict[str, LabelEntry] = {}
    for b in choices:
        number = b.id if b.id not in taken else max(taken | {c.id for c in fine.labels}) + 1
        taken.add(number)
        nodes = [tree.names[n] for n in tree.cover(b.leaves)]
        entries[b.name] = LabelEntry(id=number, name=b.name, nodes=nodes, color=b.color)
    facts = {"dataset": dataset, "label": name, "least": least, "model": model.name, "model_digest": model.digest}
    write_json(out / "blobs.json", facts | {"subclasses": [e.model_dump() for e in entries.values()]})
    write_text(out / "blobs.csv", text.getvalue())
    say(f"{len(rows)} blobs of {name!r} in {out}/blobs.csv and {sheets + bool(tiles)} sheets")
    return len(rows)


def _confirmed(folder: Path, names: Sequence[str]) -> dict[str, dict[tuple[int, ...], tuple[str, int]]]:
    """By image: x, y, width, height, pixels of its confirmed blobs -> subclass and line; all faults at once."""
    path = folder / "blobs.csv"
    reader = csv.DictReader(io.StringIO(read_text(path)))
    missing = [c for c in COLUMNS if c not in (reader.fieldnames or ())]
    if missing:
        raise HeterosegError(f"{path}:1: expected the columns {', '.join(COLUMNS)}, {', '.join(missing)} is missing")
    result: dict[str, dict[tuple[int, ...], tuple[str, int]]] = {}
    faults = []
    for line, row in enumerate(reader, 2):
        said = (row["confirmed"] or "").strip()
        chosen = row["proposal"] if said.lower() == "yes" else said
        if said.lower() in ("", "no"):
            continue
        if chosen not in names:
            faults.append(
                f"{path}:{line}: confirmed must be yes, no, nothing or a subclass, found {chosen!r}"
                f"{nearest(chosen, names)}"
            )
            continue
        try:
            key = tuple(int(row[c]) for c in ("x", "y", "width", "height", "pixels"))
        except (TypeError, ValueError):
            faults.append(f"{path}:{line}: x, y, width, height and pixels must be whole numbers, as find wrote them")
            continue
        result.setdefault(row["image"], {})[key] = (chosen, line)
    if faults:
        raise HeterosegError(*faults)
    if not result:
        raise HeterosegError(f"{path}: no blob is confirmed; write yes or the name of a subclass into `confirmed`")
    return result


def apply_blobs(sources: Sequence[Source], folder: Path, out: Path, say: Callable[[str], None] = lambda _: None) -> str:
    """Write a dataset for the reader `folder` in which confirmed blobs carry their subclass: OUT/images, OUT/masks
    (16-bit ids) by split, and label_space.yaml. Returns the dataset's name.

    A line of blobs.csv that is no blob of the masks at hand raises HeterosegError before anything is written.
    """
    try:
        facts = json.loads(read_text(folder / "blobs.json"))
        dataset, name, least = facts["dataset"], facts["label"], facts["least"]
        entries = [LabelEntry.model_validate(e) for e in facts["subclasses"]]
    except (ValueError, KeyError, TypeError):
        raise HeterosegError(f"{folder / 'blobs.json'}: expected what `blobs find` wrote; run it again") from None
    source = source_named(sources, dataset)
    label = next((b for b in source.space.labels if b.name == name), None)
    if label is None:
        raise HeterosegError(f"datasets.{dataset}: its label space has no label {name!r}, which the blobs are of")
    wanted = _confirmed(folder, [e.name for e in entries])
    numbers = {e.name: e.id for e in entries}
    space = _extended(source.space, label, entries)
    require_empty(out)
    masks, faults = {}, []
    for image_name, item in _parts(source):
        left = dict(wanted.pop(image_name, {}))
        if left:
            mask = _native(item)[1]
            regions, found = components(mask, label.id, least)
            places = {(*blob.window, blob.pixels): i for i, blob in found.items()}
            mask = mask.copy()
            for key, (chosen, line) in left.items():
                if key in places:
                    mask[regions == places[key]] = numbers[chosen]
                else:
                    faults.append(f"{folder / 'blobs.csv'}:{line}: {image_name} has no such blob of {name!r} any more")
            masks[image_name] = mask
    faults += [f"{folder / 'blobs.csv'}: the dataset has no image {image_name!r}" for image_name in wanted]
    if faults:
        raise HeterosegError(*faults, "the masks have changed since `blobs find`; run it again")
    for image_name, item in _parts(source):
        ids = masks[image_name] if image_name in masks else _native(item)[1]
        with written(out / "masks" / f"{image_name}.png") as temporary:
            write_ids(temporary, np.where(ids < 0, space.outside, ids), bits=16)
        with written(out / "images" / f"{image_name}{item.image.suffix}") as temporary:
            shutil.copyfile(item.image, temporary)
    tree, file = space.taxonomy, space.file
    taxonomy = taxonomy_reference(tree)
    if taxonomy == "taxonomy.yaml":
        write_taxonomy(tree, out / taxonomy)
    write_yaml(out / "label_space.yaml", file.model_copy(update={"taxonomy": taxonomy}))
    say(f"{out}: {len(masks)} images with confirmed blobs, {len(_parts(source))} in all")
    return dataset


def _extended(space: LabelSpace, label: Label, entries: Sequence[LabelEntry]) -> LabelSpace:
    """The space with the subclasses; the label stays for the other blobs, scored while some leaf is its alone."""
    tree = space.taxonomy
    covered: frozenset[int] = frozenset()
    for e in entries:
        covered = covered.union(*(tree.leaves_of(tree.index(n)) for n in e.nodes or ()))
    old = [
        e.model_copy(update={"evaluate": False}) if e.name == label.name and label.leaves <= covered else e
        for e in space.file.labels
    ]
    known = {e.name for e in old}
    new = [e.model_copy(update={"name": f"{e.name} ({label.name})"}) if e.name in known else e for e in entries]
    update = {"name": f"{space.name}-extended", "labels": [*old, *new], "outside": space.outside}
    return build_label_space(space.file.model_copy(update=update), tree)
