"""WebDataset shards: SPLIT-*.tar, or *.tar in a folder SPLIT, whose members are KEY.jpg and KEY.png.

KEY is all before the first dot of the last part of a member's path, as in the webdataset package, and names the item.
"""

import sys
import tarfile
from collections.abc import Container, Iterator
from pathlib import Path

from heteroseg.datasets.paths import below
from heteroseg.datasets.sample import Item
from heteroseg.datasets.shards import Record, unpack_once
from heteroseg.errors import HeterosegError, raise_faults
from heteroseg.files import MOST_BYTES, require_regular


def webdataset(root: Path, split: str, image: str = "jpg", mask: str = "png", cache: str | None = None) -> list[Item]:
    """Items named by their keys; `image` and `mask` are the endings of their members, as `jpg` and `seg.png`.

    The shards are unpacked once to `cache` (default: .heteroseg in the root).
    """
    if image == mask:
        raise HeterosegError(f"webdataset: image and mask are both {image!r}; set `image` and `mask` to their endings")
    places = {"image": image, "mask": mask}
    return unpack_once(root, split, (f"{split}-*.tar", f"{split}/*.tar"), places, cache, _records)


def _records(shards: list[Path], places: dict[str, str]) -> Iterator[Record]:
    """The images and masks; all keys are checked while they are read."""
    kinds = {ending: kind for kind, ending in places.items()}
    endings_of: dict[str, set[str]] = {}
    endings: set[str] = set()
    for shard in shards:
        for key, ending, data in _members(shard, kinds):
            endings.add(ending)
            if data is None:
                continue
            below(Path(), key, f"{shard}: the member {key!r:.80}")
            if ending in endings_of.setdefault(key, set()):
                raise HeterosegError(f"{shard}: the key {key!r} stands twice; keys must be unique in a split")
            endings_of[key].add(ending)
            yield key, kinds[ending], data
    if not endings_of:
        wanted, there = " and ".join(kinds), ", ".join(sorted(endings)) or "none"
        raise HeterosegError(f"{shards[0]}: expected members ending in {wanted}, found {there}; set `image` and `mask`")
    missing = ((key, e) for key, have in endings_of.items() for e in kinds if e not in have)
    raise_faults([f"{shards[0].parent}: the sample {key!r} has no member ending in {e}" for key, e in missing])


def _members(shard: Path, endings: Container[str]) -> Iterator[tuple[str, str, bytes | None]]:
    """(key, ending, content) of each file in a tar; the content only of files with one of `endings`."""
    try:
        with tarfile.open(require_regular(shard, sys.maxsize), "r:") as tar:  # not packed, as the package writes them
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                stem, _, ending = name.partition(".")
                if member.isfile() and stem:
                    file = tar.extractfile(_bounded(member)) if ending in endings else None
                    yield f"{folder}/{stem}".strip("/"), ending, None if file is None else file.read()
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else "it is cut off"
        raise HeterosegError(f"{shard}: cannot be read as tar, {reason}; download it again") from None


def _bounded(member: tarfile.TarInfo) -> tarfile.TarInfo:
    if member.size > MOST_BYTES or member.issparse():
        raise tarfile.ReadError(f"the member {member.name!r:.80} says that it has {member.size} bytes")
    return member
