"""Readers of published dataset layouts: plain functions from a folder to a list of items.

A reader is `reader(root, split, **options) -> list[Item]`, with a `Listing` where its files tell more; `READERS` gives
its name in an experiment file. What is missing, and all faults of the annotation at once, raise HeterosegError.
"""

from collections.abc import Callable
from dataclasses import replace
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

from heteroseg.datasets.decoding import read_annotation, read_sample
from heteroseg.datasets.faulty import without_faulty
from heteroseg.datasets.formats.a2d2 import a2d2
from heteroseg.datasets.formats.camvid import camvid, camvid_segnet
from heteroseg.datasets.formats.cityscapes import cityscapes
from heteroseg.datasets.formats.coco import coco_panoptic
from heteroseg.datasets.formats.cvat import cvat
from heteroseg.datasets.formats.folder import folder
from heteroseg.datasets.formats.gtsdb import gtsdb
from heteroseg.datasets.formats.gtsrb import gtsrb
from heteroseg.datasets.formats.huggingface import huggingface
from heteroseg.datasets.formats.idd import idd, idd_lite
from heteroseg.datasets.formats.label_studio import label_studio
from heteroseg.datasets.formats.mtsd import mtsd
from heteroseg.datasets.formats.nuimages import nuimages
from heteroseg.datasets.formats.open_images import open_images
from heteroseg.datasets.formats.vistas import vistas
from heteroseg.datasets.formats.webdataset import webdataset
from heteroseg.datasets.formats.yolo import yolo
from heteroseg.datasets.image_files import decode_image, read_image
from heteroseg.datasets.mask_files import read_mask
from heteroseg.datasets.paths import expand, grouped, listed_names, require, require_folder
from heteroseg.datasets.sample import Item, Listing
from heteroseg.errors import HeterosegError, nearest, raise_faults, require_one_of

__all__ = ["READERS", "decode_image", "list_items", "read_annotation", "read_image", "read_mask", "read_sample"]

Reader = Callable[..., list[Item]]
_READERS: list[Reader] = [cityscapes, vistas, gtsdb, camvid, camvid_segnet, idd, idd_lite, folder, a2d2, nuimages]
_READERS += [coco_panoptic, open_images, mtsd, gtsrb, yolo, cvat, label_studio, huggingface, webdataset]
COMMON = {"skip_faulty": False, "upright": True}  # options of every reader
MOST = 50  # faults told of one split
READERS = {reader.__name__: reader for reader in _READERS}


def list_items(reader: str, root: Path | str, split: str, options: dict[str, Any] | None = None) -> Listing:
    """The items that `READERS[reader](root, split, **options)` lists, at least one.

    Three options are those of every reader. `skip_faulty: "true"` leaves faulty annotations out: they stay in the
    listing's faults, and what they cover is unknown. `upright: "false"` takes images as they are stored. `names` is a
    text file with one of the images a line, where a split is a list. An unknown reader, a bad option, a missing folder
    or image, a faulty annotation and an empty list raise HeterosegError.
    """
    require_one_of("reader", reader, READERS)
    options = dict(options or {})
    skip, upright = (_switch(options, *pair) for pair in COMMON.items())
    chosen = None if "names" in signature(READERS[reader]).parameters else options.pop("names", None)
    _check_options(reader, options)
    listing = READERS[reader](require_folder(Path(root)), split, **options)
    listing = listing if isinstance(listing, Listing) else Listing(listing)
    if not skip:
        raise_faults(grouped(f"{root} {split}", listing.faults), MOST)
    if chosen is not None:
        images = {item.name: item for item in listing}
        wanted = listed_names(Path(root, expand(chosen, split)))
        found = require(wanted, {name: item.image for name, item in images.items()}, "image", str(Path(root, "{name}")))
        listing = listing.then(images[name] for name in found)
    if not upright:
        listing = listing.then(replace(item, upright=False) for item in listing)
    if skip:
        listing = without_faulty(listing)
    if not listing:
        fault = f"{root}: expected images of the split {split!r}, found none; check the split and {reader}'s layout"
        raise HeterosegError(fault, *listing.notes, *listing.faults[:MOST])  # of what skip_faulty left out
    return listing


def _switch(options: dict[str, Any], key: str, default: bool) -> bool:
    value = options.pop(key, str(default).lower())
    if value not in ("true", "false"):
        raise HeterosegError(f'{key}: expected "true" or "false", found {value!r}; put it in quotes')
    return bool(value == "true")


def _check_options(reader: str, options: dict[str, Any]) -> None:
    """Options are text, as the reader's signature names them; every fault is told."""
    known = {k: p for k, p in signature(READERS[reader]).parameters.items() if k not in ("root", "split")}
    names = list(dict.fromkeys([*known, "names", *COMMON]))
    told = f"{reader}: expected {', '.join(names)}, found the option"
    faults = [f"{told} {k!r}; rename or remove it{nearest(k, names)}" for k in options if k not in known]
    for key, parameter in known.items():
        value = options.get(key, parameter.default)
        if value is Parameter.empty:
            faults.append(f"{reader}: expected the option {key!r}, found none; see the reader's layout and add it")
        elif not isinstance(value, str) and value is not parameter.default:
            faults.append(f"{reader}: expected text for the option {key!r}, found {value!r}; put it in quotes")
    raise_faults(faults)
