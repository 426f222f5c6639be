"""WebDataset shards: SPLIT-*.tar, or *.tar in a folder SPLIT, whose members are KEY.jpg and KEY.png.

KEY is all before the first dot of the last part of a member's path, as in the webdataset package, and names the item.
"""

import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from heteroseg.datasets.paths import tell
from heteroseg.datasets.sample import Item
from heteroseg.datasets.shards import Record, unpacked
from heteroseg.errors import HeterosegError


def webdataset(
    root: Path | str, split: str, image: str = "jpg", mask: str = "png", cache: str | None = None
) -> list[Item]:
    """Items named by their keys; `image` and `mask` are the endings of their members, as `jpg` and `seg.png`.

    The shards are unpacked once to `cache` (default: .heteroseg in the root). A key twice or without one of the two,
    and a damaged shard raise HeterosegError.
    """
    root = Path(root)
    shards = sorted([*root.glob(f"{split}-*.tar"), *root.glob(f"{split}/*.tar")])
    if not shards:
        raise HeterosegError(f"{root}: expected {split}-*.tar or {split}/*.tar, found none; check the split")
    if image == mask:
        raise HeterosegError(f"webdataset: image and mask are both {image!r}; set `image` and `mask` to their endings")
    return unpacked(root, split, shards, [image, mask], cache, lambda: _records(shards, {image: "image", mask: "mask"}))


def _records(shards: list[Path], kinds: dict[str, str]) -> Iterator[Record]:
    found: dict[str, set[str]] = {}
    endings: set[str] = set()
    for shard in shards:
        try:
            with tarfile.open(shard) as tar:
                for member in tar:
                    folder, _, name = member.name.rpartition("/")
                    stem, _, ending = name.partition(".")
                    if not member.isfile() or not stem:
                        continue
                    endings.add(ending)
                    if ending not in kinds:
                        continue
                    key, kind = f"{folder}/{stem}".strip("/"), kinds[ending]
                    if ".." in PurePosixPath(key).parts:
                        raise HeterosegError(f"{shard}: the member {member.name!r} points out of the folder")
                    if kind in found.setdefault(key, set()):
                        raise HeterosegError(f"{shard}: the key {key!r} stands twice; keys must be unique in a split")
                    found[key].add(kind)
                    data = tar.extractfile(member)
                    assert data is not None  # it is a file
                    yield key, kind, data.read()
        except (tarfile.TarError, OSError, EOFError) as error:
            reason = str(error).splitlines()[0] if str(error) else "it is cut off"
            raise HeterosegError(f"{shard}: cannot be read as tar, {reason}; download it again") from None
    if not found:
        wanted, there = " and ".join(kinds), ", ".join(sorted(endings)) or "none"
        raise HeterosegError(f"{shards[0]}: expected members ending in {wanted}, found {there}; set `image` and `mask`")
    missing = ((key, e) for key, have in found.items() for e, kind in kinds.items() if kind not in have)
    tell([f"{shards[0].parent}: the sample {key!r} has no member ending in {e}" for key, e in missing])
