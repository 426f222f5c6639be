"""What a dataset is, told by its files: its reader with options, its splits, and what its ids are called."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from heteroseg.curation.label_lists import read_label_list, slug
from heteroseg.datasets import list_items
from heteroseg.datasets.formats.label_studio import KINDS
from heteroseg.datasets.paths import IMAGE_SUFFIXES, file_of, stem_of, walk
from heteroseg.errors import HeterosegError, listed, shortened
from heteroseg.files import read_json, read_text, read_yaml, require_plain
from heteroseg.labels.space import LabelEntry, load_label_space
from heteroseg.labels.taxonomy import shipped_specs

T = TypeVar("T")
# what of a published layout is seen in its folder; reader, its options, splits, and the label space that ships
PUBLISHED: list[tuple[str, str, dict[str, str], tuple[str, str], str]] = [
    ("gtFine/train/*/*_gtFine_labelIds.png", "cityscapes", {}, ("train", "val"), "cityscapes"),
    ("gtFine/train/*/*_gtFine_labellevel3Ids.png", "idd", {"labels": "labellevel3Ids"}, ("train", "val"), "idd-level3"),
    ("gtFine/train/*/*_gtFine_polygons.json", "idd", {"labels": "polygons"}, ("train", "val"), "idd"),
    ("gtFine/train/*/*_label.png", "idd_lite", {}, ("train", "val"), "idd-lite"),
    ("training/v1.2/labels/*.png", "vistas", {}, ("training", "validation"), "vistas"),
    ("train/v1.2/labels/*.png", "vistas", {}, ("train", "val"), "vistas"),  # as the generated scenes have it
    ("training/v2.0/labels/*.png", "vistas", {"version": "v2.0"}, ("training", "validation"), "vistas2"),
    ("LabeledApproved_full/*_L.png", "camvid", {}, ("train", "val"), "camvid32"),
    ("trainannot/*.png", "camvid_segnet", {}, ("train", "val"), "camvid11"),
    ("v1.0-train/object_ann.json", "nuimages", {}, ("train", "val"), "nuimages"),
    ("Final_Training/Images", "gtsrb", {}, ("train", "test"), "gtsdb"),
    ("gt.txt", "gtsdb", {}, ("train", "val"), "gtsdb"),
]
SPLIT = re.compile(r"(?<![A-Za-z])(training|train|validation|valid|val|testing|test)(?![A-Za-z])")
TRAIN, VAL = ("train", "training"), ("val", "valid", "validation", "test", "testing")
LISTS = {".txt", ".json", ".csv", ".tsv", ".names", ".yaml", ".yml", ".py"}
FEW = 5  # masks that are looked at
MANY = 20  # files that may be a list of labels


@dataclass
class Recognised:
    """A dataset by its files. `splits` are train and val; None: there is one listing, which has to be divided.

    `labels` name its ids, `space` is a shipped label space that does. What `look` finds: `images` are their names;
    `outlined`: shapes are painted, so that a background may be; `boxed`: there are boxes alone.
    """

    name: str
    root: Path
    reader: str
    options: dict[str, str]
    splits: tuple[str, str] | None
    space: str | None = None
    labels: list[LabelEntry] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    outlined: bool = False
    boxed: bool = False


def recognise(given: str) -> Recognised:
    """The dataset of a folder, of an export's file or of a shipped label space; NAME=PATH gives it a name.

    What is none of the layouts and forms that are known raises HeterosegError.
    """
    name, equals, text = ("", "", given) if Path(given).exists() else given.partition("=")
    if equals:
        require_plain(shortened(given), name)
    path = Path(text if equals else given).expanduser()
    if not path.exists() and given in shipped_specs("label_spaces"):
        return Recognised(given, Path(), "", {}, None, given, list(load_label_space(given).file.labels))
    if not path.exists():
        raise HeterosegError(f"{path}: expected a folder or an export's file, found nothing; check the path")
    folder = path if path.is_dir() else path.parent
    found = _found(path.resolve(), folder.resolve())
    found.name = name if equals else slug(found.root.name, "data")
    if found.space:
        found.labels = list(load_label_space(found.space).file.labels)
    return found


def _found(path: Path, folder: Path) -> Recognised:
    if path.is_dir():
        for seen, reader, options, splits, space in PUBLISHED:
            if next(folder.glob(seen), None) is not None:
                return Recognised("", folder, reader, dict(options), splits, space)
        files = sorted(walk(folder, {".yaml", ".yml", ".xml", ".json"}))
    else:  # with the same export of other splits
        files = [other for other in sorted(folder.glob(f"*{path.suffix}")) if _alike(other.name) == _alike(path.name)]
    kinds = (_yolo, _cvat, _label_studio)
    exports = {file: found for kind in kinds for file in files if (found := _within(file, kind, file))}
    exports |= _coco(files, folder)
    if len(exports) > 1:
        told = ", ".join(sorted(str(file.relative_to(folder)) for file in exports)[:3])
        hint = "name one of them, or each as a dataset, A=FILE B=FILE"
        raise HeterosegError(f"{path}: expected one export, found {len(exports)}, {told}; {hint}")
    if exports:
        return next(iter(exports.values()))
    if path.is_dir() and (found := _masks(folder)):
        return found
    forms = "a published layout, YOLO's data.yaml, a COCO json, an export of CVAT or Label Studio, or images with masks"
    raise HeterosegError(f"{path}: expected {forms}, found none; see `heteroseg init` for an experiment by hand")


def _within(path: Path, kind: Callable[..., T], *given: Any) -> T:
    """What a function finds in an export; one whose parts are others than its tool writes raises HeterosegError."""
    try:
        return kind(*given)
    except (AttributeError, KeyError, TypeError, ElementTree.ParseError) as error:
        told = f"expected an export as its tool writes it, found something else inside ({error!s:.80})"
        raise HeterosegError(f"{path}: {told}; export it again") from None


def look(found: Recognised) -> None:
    """List the images, for what the ids are called and what is annotated."""
    listing = list_items(found.reader, found.root, found.splits[0] if found.splits else "all", found.options)
    found.images = [item.name for item in listing]
    if not found.labels:
        found.labels = [LabelEntry(id=i, name=name) for i, name in sorted(listing.names.items())]
    if not found.labels:
        told = "expected an export that names its classes, found none"
        raise HeterosegError(f"{found.root}: {told}; write the experiment by hand (`heteroseg init`)")
    found.outlined = any(item.shapes for item in listing)
    masked = any(item.mask and item.mask.suffix.lower() in IMAGE_SUFFIXES for item in listing)
    found.boxed = not (found.outlined or masked)


def _split(texts: Iterable[str]) -> tuple[str, tuple[str, str] | None]:
    """A pattern with `{split}` for paths of several splits, and the two that are used; one path where that is all."""
    texts = list(texts)
    by_pattern = defaultdict[str, dict[str, str]](dict)
    for text in texts:
        match = SPLIT.search(text)
        by_pattern[_alike(text)][match[0] if match else ""] = text
    pattern, tokens = max(by_pattern.items(), key=lambda entry: len(entry[1]))
    train, val = (next((token for token in known if token in tokens), None) for known in (TRAIN, VAL))
    return (pattern, (train, val)) if train and val else (tokens.get(train or "", texts[0]), None)


def _images(root: Path, names: Sequence[str], file: str) -> str:
    """The pattern of images that an export names so; `file` is the export below the root."""
    places = {path.name: path for path in walk(root)}
    name = next((name for name in names if file_of(name) in places), None)
    if name is None:
        such = names[0] if names else "nothing"
        raise HeterosegError(f"{root / file}: expected its images beside it, found none like {such!r}; put them there")
    return f"{places[file_of(name)].relative_to(root).parent.as_posix()}/{{name}}.*".removeprefix("./")


def _yolo(path: Path) -> Recognised | None:
    data = read_yaml(path).data if path.suffix in (".yaml", ".yml") else None
    if not isinstance(data, dict) or not isinstance(data.get("names"), list | dict) or not data.get("train"):
        return None
    base = path.parent / str(data.get("path") or "")
    base = base if base.is_dir() else path.parent
    places = [_place_of(base, path, data.get(key)) for key in ("train", "val") if data.get(key)]
    images, splits = _split(f"{place}/{{name}}.*" for place in places)
    labels = "labels".join(images.rsplit("images", 1)).replace("{name}.*", "{name}.txt")
    return Recognised("", base.resolve(), "yolo", {"images": images, "labels": labels}, splits)


def _place_of(base: Path, path: Path, value: Any) -> str:
    """A folder of images as data.yaml names it, below `base`."""
    text = str(value).removeprefix("../").removeprefix("./").rstrip("/")
    for place in (base / str(value), base / text, base / text / "images"):
        if place.is_dir() and place.resolve().is_relative_to(base.resolve()):
            return place.resolve().relative_to(base.resolve()).as_posix()
    told = f"expected folders of images as train and val, found {value!r:.80}"
    raise HeterosegError(f"{path}: {told}; correct it, or write the experiment by hand (`heteroseg init`)")


def _cvat(path: Path) -> Recognised | None:
    text = read_text(path) if path.suffix == ".xml" else ""
    if "<annotations" not in text[:2000] or "<!DOCTYPE" in text:
        return None
    images = list(ElementTree.fromstring(text).iterfind("image"))
    subsets = [subset for image in images if (subset := image.get("subset"))]
    train, val = (next((s for s in subsets if s.lower() in known), None) for known in (TRAIN, VAL))
    pattern = _images(path.parent, [image.get("name", "") for image in images], path.name)
    splits = (train, val) if train and val else None
    if splits and all((path.parent / _alike(pattern).replace("{split}", s)).parent.is_dir() for s in splits):
        pattern = _alike(pattern)  # a project's export has a folder for each subset
    options = {"annotations": path.name, "images": pattern}
    return Recognised("", path.parent, "cvat", options, splits)


def _label_studio(path: Path) -> Recognised | None:
    tasks: Any = read_json(path) if path.suffix == ".json" else None
    first = tasks[0] if isinstance(tasks, list) and tasks and isinstance(tasks[0], dict) else {}
    if "annotation_id" in first:
        raise HeterosegError(f"{path}: expected Label Studio's export JSON, found its JSON-MIN; export as JSON")
    if "annotations" not in first:
        return None
    names = [str(text) for task in tasks for text in task.get("data", {}).values() if isinstance(text, str)]
    names += [re.sub("^[0-9a-f]{8}-", "", file_of(name)) for name in names]
    options = {"annotations": path.name, "images": _images(path.parent, names, path.name)}
    divided = all(path.with_name(f"{split}.txt").is_file() for split in ("train", "val"))
    splits = ("train", "val") if divided else None
    found = Recognised("", path.parent, "label_studio", options, splits)
    marks = [mark for task in tasks for note in task["annotations"] for mark in note.get("result", [])]
    values = [mark.get("value", {}).get(kind, []) for mark in marks for kind in KINDS]
    labels = dict.fromkeys(str(label) for value in values for label in value)
    found.labels = [LabelEntry(id=i, name=label) for i, label in enumerate(labels)]
    return found


def _coco(files: Sequence[Path], folder: Path) -> dict[Path, Recognised]:
    """What COCO jsons hold, by the first of them; those of the splits of one dataset go together."""
    groups = defaultdict[str, dict[str, Any]](dict)
    root = folder.parent if folder.name == "annotations" and not any(walk(folder)) else folder
    for path in (path for path in files if path.suffix == ".json"):
        data = read_json(path)
        if isinstance(data, dict) and {"images", "annotations", "categories"} <= data.keys():
            name = path.relative_to(root).as_posix()
            groups[_alike(name)][name] = data
    return {file: _within(file, _of_coco, root, jsons) for jsons in groups.values() for file in [root / min(jsons)]}


def _alike(name: str) -> str:
    """What names of different splits have in common."""
    return SPLIT.sub("{split}", name, count=1)


def _of_coco(root: Path, jsons: dict[str, Any]) -> Recognised:
    file, splits = _split(jsons)
    first = file.replace("{split}", splits[0]) if splits else file
    names = [str(image.get("file_name")) for image in jsons[first]["images"]]
    images = _images(root, names, first)
    images = _alike(images) if splits else images
    drawn = any(note.get("segmentation") for note in jsons[first]["annotations"])
    options = {"images": images, "polygons" if drawn else "boxes": file}
    return Recognised("", root, "folder", options, splits)


def _masks(folder: Path) -> Recognised | None:
    """Images and masks that go together by their names, with a list of what the ids mean."""
    groups = defaultdict[str, list[Path]](list)
    for path in walk(folder):
        groups[_alike(path.parent.relative_to(folder).as_posix()) + path.suffix].append(path)
    photos = {key: paths for key, paths in groups.items() if not _are_masks(paths)}
    for key, masks in groups.items():
        for images in photos.values():
            if key in photos or (rest := _ending(images, masks)) is None:
                continue
            one, splits = _split(p.parent.relative_to(folder).as_posix() for p in images)
            two, _ = _split(p.parent.relative_to(folder).as_posix() for p in masks)
            options = {"images": f"{one}/{{name}}.*", "masks": f"{two}/{{name}}{rest}{masks[0].suffix}"}
            found = Recognised("", folder, "folder", {k: v.removeprefix("./") for k, v in options.items()}, splits)
            found.labels = _names(folder)
            return found
    return None


def _are_masks(paths: Sequence[Path]) -> bool:
    """Whether images hold ids: one channel or a palette, of few values."""

    def holds_ids(path: Path) -> bool:
        with Image.open(path) as image:
            if image.mode not in ("L", "P", "I", "I;16") or image.format not in ("PNG", "TIFF"):
                return False
            pixels = np.asarray(image)
        if image.mode != "L":
            return len(np.unique(pixels)) <= 256
        return pixels.size <= 1 or bool((pixels[:, 1:] == pixels[:, :-1]).mean() > 0.8)  # of photographs few are equal

    return all(map(holds_ids, paths[:FEW]))


def _ending(images: Sequence[Path], masks: Sequence[Path]) -> str | None:
    """What the names of the masks have behind those of their images; None where they do not go together."""
    stems, names = {stem_of(p.name) for p in images}, {stem_of(p.name) for p in masks}
    first = min(names)
    for rest in (first[i:] for i in range(len(first), 0, -1)):
        if first.removesuffix(rest) in stems:
            return rest if {stem + rest for stem in stems} <= names else None
    return "" if stems <= names else None


def _names(folder: Path) -> list[LabelEntry]:
    """The labels of the list in a folder of masks."""
    for path in sorted(walk(folder, LISTS), key=lambda path: len(path.parts))[:MANY]:
        with suppress(HeterosegError):  # a list of images, or another file
            return [LabelEntry(**label.model_dump()) for label in read_label_list(path)]
    there = listed(sorted(path.name for path in folder.iterdir()), 8)
    told = f"expected a list of what the ids mean, such as classes.txt with `7 sky` a line, found none ({there})"
    raise HeterosegError(f"{folder}: {told}; write one there")
