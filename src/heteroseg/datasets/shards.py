"""Shards (Parquet, Arrow, tar) unpacked once, as they are: training reads images in random order, which shards are not
made for."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from heteroseg.datasets.image_files import JPEG, PNG
from heteroseg.datasets.paths import items_of
from heteroseg.datasets.sample import Item
from heteroseg.errors import HeterosegError
from heteroseg.writing import alone, part_of

CACHE = ".heteroseg"

Record = tuple[str, str, bytes]  # name of the sample, "image" or "mask", content of the file


def unpack_once(
    root: Path,
    split: str,
    patterns: tuple[str, ...],
    places: dict[str, str],
    cache: str | None,
    records: Callable[[list[Path], dict[str, str]], Iterator[Record]],
) -> list[Item]:
    """Items whose files lie in `cache` (default: .heteroseg in the root), written there where they are not yet.

    `records` reads the shards that match one of the `patterns`; no shard raises HeterosegError. `places` says under
    which column or ending the "image" and the "mask" lie. Other shards or places get another folder.
    """
    shards = sorted({path for pattern in patterns for path in root.glob(pattern)})
    if not shards:
        raise HeterosegError(f"{root}: expected {' or '.join(patterns)}, found none; check the split")
    stamp = [(str(p.relative_to(root)), p.stat().st_size, p.stat().st_mtime_ns) for p in shards]
    key = hashlib.sha256(json.dumps([stamp, *places.values()]).encode()).hexdigest()[:12]
    folder = Path(cache or root / CACHE) / f"{split}-{key}"
    if not folder.is_dir():
        _unpack(folder, records(shards, places))
    return items_of(folder, split, "image/{name}.*", "mask/{name}.*")


def _unpack(folder: Path, records: Iterator[Record]) -> None:
    """Write image/NAME and mask/NAME to `folder`, which is there only when it is complete."""
    try:
        with alone(folder.parent, wait=True):  # of several processes of a training one unpacks
            if not folder.is_dir():
                _unpack_to(part_of(folder), records)
                part_of(folder).rename(folder)
    except OSError as error:
        raise HeterosegError(f"{folder.parent}: cannot be written, {error.strerror}; set `cache` to a folder") from None


def _unpack_to(part: Path, records: Iterator[Record]) -> None:
    shutil.rmtree(part, ignore_errors=True)  # of a killed run
    part.mkdir()
    try:
        for name, kind, data in records:
            target = part / kind / f"{name}{_suffix(data)}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _suffix(data: bytes) -> str:
    known = {PNG: ".png", JPEG: ".jpg", b"RIFF": ".webp", b"BM": ".bmp"}
    return next((suffix for start, suffix in known.items() if data.startswith(start)), ".tif")
