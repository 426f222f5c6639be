"""What all readers share: finding files by a pattern, pairing images with masks, and saying what is missing."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import replace
from glob import escape
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn
from urllib.parse import unquote

from heteroseg.datasets.sample import Item, Listing
from heteroseg.errors import HeterosegError, counted, listed, nearest, raise_faults
from heteroseg.files import read_text

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp"})
SYSTEM = {"thumbs.db", "desktop.ini"}  # what Windows leaves in folders; others leave hidden files
SHOWN = 20
PLACES, NAMED = 3, 10  # faults of one kind that are told, and places of others that are named
LIST_HINT = "name a split that has a list, or write the list with one image a line"


def grouped(name: str, faults: Iterable[str]) -> list[str]:
    """The first faults of each kind, and the places of the others; `name` is whose faults they are."""
    kinds = defaultdict[str, list[tuple[str, str]]](list)
    for fault in faults:
        place, _, rest = fault.partition(": expected ")
        kind = rest.partition(", found ")[0] or place.partition(": ")[2]
        kinds[kind].append((place if rest else place.partition(": ")[0], fault))
    told: list[str] = []
    for alike in kinds.values():
        told += [fault for _, fault in alike[:PLACES]]
        if others := [place for place, _ in alike[PLACES:]]:
            told.append(f"{name}: {counted(len(others), 'more fault')} like the last, in {listed(others, NAMED)}")
    return told


Found = tuple[str, str, str]  # of a fault: its place, its group (such as an image), and `expected ..., found ...`


def by_group(faults: Iterable[Found], hint: str) -> list[str]:
    """A sentence for each kind of fault in a group, with the first places and the count of the rest."""
    kinds = defaultdict[tuple[str, str], list[tuple[str, str]]](list)
    for where, group, fault in faults:
        kinds[group, fault.partition(", found ")[0]].append((where, fault))
    told = []
    for places in kinds.values():
        (where, fault), rest = places[0], len(places) - PLACES
        others = ", ".join(place.rpartition(": ")[2] for place, _ in places[1:PLACES])
        same = f"; the same at {others}" * bool(others) + f" and {counted(rest, 'more place')}" * (rest > 0)
        told.append(f"{where}: {fault}{same}; {hint}")
    return told


def raise_missing(path: Path, kind: str, hint: str) -> NoReturn:
    """Say that `path` is missing, what stands in the deepest folder above it that exists, and what to do."""
    above = next((p for p in path.parents if p.is_dir()), Path("."))
    missing = path.relative_to(above).parts[0]
    there = sorted(p.name for p in above.iterdir() if not p.name.startswith("."))
    told = f"expected this {kind}, found no {missing!r} in {above} (it has {listed(there, 12) or 'nothing'})"
    raise HeterosegError(f"{path}: {told}; {hint}{nearest(missing, there)}")


def require_file(path: Path, kind: str, hint: str) -> Path:
    """`path` where it is a file; else `raise_missing`."""
    if not path.is_file():
        raise_missing(path, kind, hint)
    return path


def require_folder(path: Path) -> Path:
    """`path` where it is a folder; else HeterosegError."""
    if path.is_file():
        raise HeterosegError(f"{path}: expected a folder, found a file; unpack it or name the folder above it")
    if not path.is_dir():
        raise_missing(path, "folder", "check the split, the reader and the dataset's root")
    return path


def below(root: Path, name: str, where: str) -> Path:
    """The path of a name that an annotation or an archive tells; one that leads out of `root` raises HeterosegError.

    What the user has linked into the root is the user's; a name must not climb.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
        told = f"expected a path below {root}, found {name!r:.80}, which points out of the folder"
        raise HeterosegError(f"{where}: {told}")
    return root / name


def expand(pattern: str, split: str, name: str | None = None) -> str:
    """`pattern` with its `{split}`, and its `{name}` where one is given, put in."""
    pattern = pattern.replace("{split}", split)
    return pattern if name is None else pattern.replace("{name}", name)


def _compiled(pattern: str) -> re.Pattern[str]:
    wild = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    text = "".join(wild.get(part, re.escape(part)) for part in re.split(r"(\*\*/|\*\*|\*)", pattern))
    name = re.escape("{name}")
    text = text.replace(name, "(?P<name>.+)", 1).replace(name, "(?P=name)")
    return re.compile(re.sub(r"\\\.\w+$", lambda suffix: f"(?i:{suffix[0]})", text))  # .jpg is .JPG too


def check_pattern(pattern: str, what: str, known: tuple[str, ...] = ("split", "name")) -> None:
    """Raise HeterosegError for placeholders other than `known`, or where `{name}` is due and missing."""
    for key in re.findall(r"\{(.*?)\}", pattern):
        if key not in known:
            expected = " and ".join(f"{{{k}}}" for k in known)
            raise HeterosegError(f"{what}: expected only {expected} in braces, found {{{key}}} in {pattern!r}")
    if "name" in known and "{name}" not in pattern:
        raise HeterosegError(f"{what}: expected {{name}} in the pattern, found {pattern!r}; write e.g. '{{name}}.png'")
    if pattern.startswith("/") or ".." in Path(pattern).parts:
        raise HeterosegError(f"{what}: expected a path relative to the root, found {pattern!r}; set `root` higher up")


def split_file(root: Path, split: str, pattern: str, option: str, kind: str, hint: str) -> Path:
    """The file that an option names by a pattern with `{split}`; a bad pattern and a missing file raise."""
    check_pattern(pattern, option, ("split",))
    return require_file(root / expand(pattern, split), kind, hint)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of the user's: hidden (macOS's `._a.jpg` too), or a system's."""
    return name.startswith(".") or name.lower() in SYSTEM


def _unreadable(error: OSError) -> NoReturn:
    raise HeterosegError(f"{error.filename}: cannot be read, {error.strerror or error}")


def walk(base: Path, suffixes: Container[str] | None = IMAGE_SUFFIXES) -> Iterator[Path]:
    """The files under a folder that end so, in any case (None: all), without hidden ones.

    Links in a circle are not followed. A folder that cannot be read raises HeterosegError.
    """
    around = {str(base): {os.path.realpath(base)}}  # of each folder, what it and those above it really are
    for folder, folders, names in os.walk(base, onerror=_unreadable, followlinks=True):
        above = around.pop(folder)
        places = {name: os.path.realpath(os.path.join(folder, name)) for name in folders}
        folders[:] = sorted(name for name, place in places.items() if not is_hidden(name) and place not in above)
        around |= {os.path.join(folder, name): {*above, places[name]} for name in folders}
        for name in sorted(names):
            ending = os.path.splitext(name)[1].lower()
            if not is_hidden(name) and (suffixes is None or ending in suffixes):
                yield Path(folder, name)


def matching(root: Path, pattern: str) -> Iterator[tuple[str, Path]]:
    """(name, path) of each image file under `root` that matches, in the order of the folders."""
    pattern = Path(pattern).as_posix()  # without ./ and //
    regex, fixed = _compiled(pattern), re.split("[*{]", pattern)[0].rpartition("/")[0]
    for path in walk(require_folder(root / fixed)):
        if match := regex.fullmatch(path.relative_to(root).as_posix()):
            yield match["name"], path


def find_files(root: Path, pattern: str, split: str = "") -> dict[str, Path]:
    """The image files under `root` that match, by name, sorted.

    `{name}` may span folders, `*` stays within one and `**` does not. Hidden files are left out.
    A missing folder, or two files of one name, raise HeterosegError.
    """
    files: dict[str, Path] = {}
    faults = []
    for name, path in matching(root, expand(pattern, split)):
        if (first := files.setdefault(name, path)) != path:
            faults.append(f"{path}: expected one file named {name!r}, found {first} too; remove one of them")
    raise_faults(faults, SHOWN)
    return dict(sorted(files.items()))


def lines_of(path: Path, kind: str = "list of images", hint: str = LIST_HINT) -> list[tuple[str, str]]:
    """(`file:line`, text) of each line that is not blank. A missing file raises HeterosegError."""
    lines = enumerate(read_text(require_file(path, kind, hint)).splitlines(), 1)
    return [(f"{path}:{number}", line.strip()) for number, line in lines if line.strip()]


def without_suffix(file: str) -> str:
    """A path without its image suffix, where it has one; its folders stay."""
    path = PurePosixPath(file)
    return str(path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path)


def stem_of(file: str) -> str:
    """A file's name without its folders and, where it has one, its image suffix."""
    return PurePosixPath(without_suffix(file)).name


def file_of(path: str) -> str:
    """The last part of a path, as any machine or a URL writes it."""
    return re.split(r"[/\\]", unquote(path))[-1]


def listed_names(path: Path, name_of: Callable[[str], str] = without_suffix) -> list[str]:
    """The sorted names that `name_of` makes of the lines in a list of images."""
    return unique((where, name_of(line)) for where, line in lines_of(path))


def unique(named: Iterable[tuple[str, str]], kind: str = "image") -> list[str]:
    """The names of (where, name) pairs, sorted; a name that stands twice raises HeterosegError."""
    first: dict[str, str] = {}
    faults = []
    for where, name in named:
        if first.setdefault(name, where) != where:
            faults.append(f"{where}: expected each {kind} once, found {name!r} again (first {first[name]}); remove one")
    raise_faults(faults, SHOWN)
    return sorted(first)


def require(names: Iterable[str], files: dict[str, Path], kind: str, expected: str) -> dict[str, Path]:
    """The files of `names`; what is missing is told with its path, `expected` being a pattern with `{name}`."""
    names = list(names)
    _raise_incomplete(kind, {name: expand(expected, "", name) for name in names if name not in files}, files)
    return {name: files[name] for name in names}


def _raise_incomplete(kind: str, missing: Mapping[str, str | Path], files: Mapping[str, Path]) -> None:
    what = "an image for each name" if kind == "image" else f"the {kind} of each image"
    faults: list[Found] = []
    for name, path in missing.items():
        came = "" if faults else _in_its_place(name, Path(path), files)  # said of the first
        faults.append((str(path), "", f"expected {what}, found for {name!r} {came}"))
    raise_faults(by_group(faults, "complete the download or take the image out of the split"))


def _in_its_place(name: str, path: Path, files: Mapping[str, Path]) -> str:
    """What there is where a file is missing."""
    if near := next((there for other, there in files.items() if normal(other) == normal(name)), None):
        return f"{str(near)!r}, the same name in another Unicode form"
    if (last := without_suffix(file_of(name))) in files:
        return f"{last!r} without folders, so this is a path of another machine"
    if (first := re.split(r"[\s,;]", name)[0]) != name and without_suffix(first) in files:
        return f"the file of its first word {first!r}, so the list has two columns"
    other = next((p for p in sorted(path.parent.glob(f"{escape(path.stem)}.*")) if p.is_file()), None)
    if other is not None:
        return f"only {str(other)!r}, which is not read"
    return f"no such file, and {such}" if not files and (such := _unmatched(path.parent)) else "no such file"


def normal(name: str) -> str:
    """A name in one form of Unicode: macOS writes an umlaut as two signs, others as one."""
    return unicodedata.normalize("NFC", name)


def items_of(
    root: Path, split: str, images: str, masks: str | None = None, names: list[str] | None = None, **fields: Any
) -> Listing:
    """Items of the images (all that match, or `names`) with the masks that match, sorted by name, with `fields`.

    A bad pattern, one that matches nothing, and what is missing raise HeterosegError. Masks of no image are counted.
    """
    _check_files(images, "images")
    files = find_files(root, images, split)
    if names is not None:
        files = require(names, files, "image", str(root / expand(images, split)))
    elif not files:
        _raise_unmatched(root, images, split)
    mask_of: dict[str, Path] = {}
    notes: list[str] = []
    if masks is not None:
        _check_files(masks, "masks")
        there = find_files(root, masks, split)
        mask_of = require(files, there, "mask", str(root / expand(masks, split)))
        of_all_splits = "{split}" in images and "{split}" not in masks
        if names is None and not of_all_splits and (spare := sorted(there.keys() - files.keys())):
            notes.append(f"{counted(len(spare), 'mask')} without an image, such as {there[spare[0]]}: left out")
    return Listing((Item(name, path, mask_of.get(name), **fields) for name, path in files.items()), notes=notes)


def _check_files(pattern: str, option: str) -> None:
    """Raise HeterosegError for a bad pattern, and for one of files that are no images."""
    check_pattern(pattern, option)
    suffix = re.search(r"\.\w+$", pattern)
    if suffix and suffix[0].lower() not in IMAGE_SUFFIXES:
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        raise HeterosegError(f"{option}: expected image files ({known}), found {pattern!r}; convert them to PNG")


def _raise_unmatched(root: Path, pattern: str, split: str) -> NoReturn:
    wanted = expand(pattern, split)
    fixed = root / re.split("[*{]", wanted)[0].rpartition("/")[0]
    other = next((p.name for p in sorted(fixed.iterdir()) if p.is_file()), None)
    such = _unmatched(fixed) or "there are no images" + f", but files such as {other}" * (other is not None)
    raise HeterosegError(f"{fixed}: expected images as {wanted!r}, found none, {such}; check the split and the pattern")


def _unmatched(folder: Path) -> str:
    """What images a folder has where none is met by a pattern."""
    there = list(walk(folder)) if folder.is_dir() else []  # a pattern may stand in its place
    return f"none of the {counted(len(there), 'image')} there matches, such as {there[0]}" if there else ""


def unlisted(names: list[str], known: Container[str], path: Path) -> list[str]:
    """A note of the images that an annotation file does not list, if there are any."""
    gone = [name for name in names if name not in known]
    told = f"{path} lists nothing for {len(gone)} of {counted(len(names), 'image')}"
    return [f"{told}, such as {gone[0]!r}: left out, as nobody annotated them"] if gone else []


def with_masks(items: list[Item], path_of: Callable[[Item], Path], kind: str) -> list[Item]:
    """Items with the masks that `path_of` names (files that are no images too); what is missing raises."""
    files = {item.name: path_of(item) for item in items}
    _raise_incomplete(kind, {name: path for name, path in files.items() if not path.is_file()}, {})
    return [replace(item, mask=files[item.name]) for item in items]


class ImageFinder:
    """Finds the image that an annotation means by its path, a tail of it or its name, each without the suffix."""

    def __init__(self, root: Path, items: list[Item], others: Iterable[Path] = ()):
        self.root = root
        self.names = {item.image: item.name for item in items}
        self.paths: dict[str, set[Path]] = {}
        for path in {*self.names, *others}:
            parts = path.relative_to(root).with_suffix("").parts
            tails = {"/".join(parts[i:]) for i in range(len(parts))}
            for key in tails | {self.names.get(path, path.stem)}:
                self.paths.setdefault(key, set()).add(path)

    def resolve(self, *images: str) -> str | None:
        """The name of the item that is meant by the first of `images` that means one image.

        None is another split's image. LookupError where no image or several are meant, said of the first.
        """
        candidates = [sorted(self.paths.get(without_suffix(image), ())) for image in images]
        matches = next((paths for paths in candidates if len(paths) == 1), candidates[0])
        if not matches:
            told = f"expected an image under {self.root}, found none like {images[0]!r}{self._near(images[0])}"
            raise LookupError(told)
        if len(matches) > 1:
            both = f"{matches[0]} and {matches[1]} for {images[0]!r}"
            raise LookupError(f"expected one image, found {both}, so write more of the path")
        return self.names.get(matches[0])

    def _near(self, image: str) -> str:
        """Why a path is none of those that are there, where that can be seen."""
        forms = {normal(key): paths for key, paths in self.paths.items()}
        if there := forms.get(normal(without_suffix(image))):
            return f"; {min(there)} has the same name in another Unicode form"
        if there := forms.get(normal(without_suffix(file_of(image)))):
            told = "has its name, so this is a path of another machine; write it as it is under the root"
            return f"; {min(there)} {told}"
        return ""
