"""What `relabel`, `blobs apply` and `masks draw` share: a dataset with new masks, written for the reader `folder`.

OUT/images/SPLIT/NAME.* are copies of the photos, OUT/masks/SPLIT/NAME.png the new masks, OUT/label_space.yaml says what
their ids mean.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from heteroseg.curation.spec_text import is_shipped, space_yaml, taxonomy_yaml
from heteroseg.datasets import read_sample
from heteroseg.datasets.encoding import write_ids
from heteroseg.datasets.sample import Item, spread_evenly
from heteroseg.errors import HeterosegError
from heteroseg.experiment.sources import Source
from heteroseg.files import write_text
from heteroseg.labels.space import Label, LabelEntry, LabelSpace, build_label_space
from heteroseg.labels.taxonomy import Taxonomy
from heteroseg.writing import is_newer, require_apart, written

Log = Callable[[str], None]
"""What tells the user how far the work is, a line at a time."""


def items_by_path(source: Source, most: int = sys.maxsize) -> list[tuple[str, Item]]:
    """Images of both splits, `most` of each and spread evenly, with their path in a new dataset, `SPLIT/NAME`."""
    splits = ((source.config.train, source.train), (source.config.val, source.val))
    return [(f"{split}/{item.name}", item) for split, items in splits for item in spread_evenly(items, most)]


def require_places(out: Path, names: Sequence[str]) -> None:
    """Raise HeterosegError for names of images that lead out of the folder, or that its disk takes for one."""
    for name in names:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise HeterosegError(f"image {name!r}: would be written outside of {out}; rename it in its dataset")
    require_apart(out, names)


def read_masked(item: Item) -> tuple[np.ndarray, np.ndarray]:
    """Decode an item to (H, W, 3) uint8 RGB and (H, W) int32 native ids. Raises HeterosegError if it has no mask."""
    sample = read_sample(item)
    if sample.mask is None:
        raise HeterosegError(f"{item.image}: has no mask; only datasets of masks can get new masks")
    return sample.image, sample.mask


def entry_of(label: Label, tree: Taxonomy, **changes) -> LabelEntry:
    """The line of a label in a label space file; `changes` replace some of its fields."""
    nodes = [tree.names[node] for node in tree.cover(label.leaves)]
    meaning = {"nodes": nodes or None, "ignore": not nodes}
    return LabelEntry(**label.model_dump(exclude={"leaves", "shape"}) | meaning | changes)


def job_of(command: str, sources: Sequence[Source], **options: Any) -> dict[str, Any]:
    """All that decides what a command makes of datasets, but for the files: `writing.filling` compares it."""
    digests = {}
    for source in sources:
        files = source.space.file, source.space.taxonomy.to_file()
        text = "\n".join(file.model_dump_json() for file in files)
        digests[source.name] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return {"command": command, "labels of": digests} | options


def write_item(out: Path, path: str, item: Item, ids: np.ndarray) -> None:
    """Write the new mask (H, W) of the image `path`, and copy the photo; what is there and not older is kept."""
    mask, photo = out / "masks" / f"{path}.png", out / "images" / f"{path}{item.image.suffix}"
    if not is_newer(mask, item.image, item.mask):
        write_ids(mask, ids, bits=16)
    if not is_newer(photo, item.image):
        with written(photo) as part:
            shutil.copyfile(item.image, part)


def with_unlabelled(space: LabelSpace) -> LabelSpace:
    """The space with a label, which is ignored, for its id `outside`: masks hold it where nothing is known."""
    if space.outside in space.ids:
        return space
    twice = any(label.name == "unlabelled" for label in space.labels)
    entry = LabelEntry(id=space.outside, name=f"unlabelled ({space.outside})" if twice else "unlabelled", ignore=True)
    labels = [*space.file.labels, entry]
    return build_label_space(space.file.model_copy(update={"labels": labels}), space.taxonomy)


def write_space(out: Path, space: LabelSpace) -> None:
    """Write OUT/label_space.yaml, and OUT/taxonomy.yaml if the package does not ship the tree of the space."""
    taxonomy = space.taxonomy.name if is_shipped(space.taxonomy) else "taxonomy.yaml"
    if taxonomy == "taxonomy.yaml":
        write_text(out / taxonomy, taxonomy_yaml(space.taxonomy.to_file()))
    write_text(out / "label_space.yaml", space_yaml(space.file.model_copy(update={"taxonomy": taxonomy})))


def finish_dataset(source: Source, out: Path, space: LabelSpace, log: Log) -> None:
    """Write the label space; `log` gets the lines of an experiment file that train on the new dataset."""
    write_space(out, space)
    options = {"images": "images/{split}/{name}.*", "masks": "masks/{split}/{name}.png"}
    if source.config.options.get("upright") == "false":
        options["upright"] = "false"  # the photos are the same
    root, config = out.resolve(), source.config
    entry = {"root": str(root), "reader": "folder", "label_space": str(root / "label_space.yaml")}
    dataset = entry | {"train": config.train, "val": config.val, "options": options}
    marks = sum(len(item.box_ids) + len(item.tags) for item in [*source.train, *source.val])
    if marks:
        log(f"warning: {out}: holds masks alone, without boxes and tags, of which {source.name} has {marks}")
    told = f"{out}: to train on it, add to datasets of an experiment:"
    log(f"{told}\n  {source.name}-refined:\n    {json.dumps(dataset, ensure_ascii=False)}")
