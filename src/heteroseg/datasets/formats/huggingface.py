"""Hugging Face datasets on disk: Parquet files as on the Hub, or the Arrow files of `save_to_disk`.

Parquet: SPLIT-*.parquet in any folder (a download of a dataset repository); Arrow: SPLIT/*.arrow. Image columns hold
the bytes of image files. Needs the extra `huggingface` (pyarrow); nothing of a dataset is run.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from heteroseg.datasets.image_files import bytes_of
from heteroseg.datasets.paths import below
from heteroseg.datasets.sample import Item
from heteroseg.datasets.shards import Record, unpack_once
from heteroseg.errors import HeterosegError, nearest, raise_faults


def huggingface(
    root: Path, split: str, image: str = "image", mask: str = "mask", cache: str | None = None
) -> list[Item]:
    """Items named by their row, 000000, 000001, ...; `image` and `mask` are columns.

    `cache` is the folder to unpack to (default: .heteroseg in the root).
    """
    patterns = (f"**/{split}-*.parquet", f"{split}/*.parquet", f"{split}/*.arrow")
    return unpack_once(root, split, patterns, {"image": image, "mask": mask}, cache, _rows)


def _rows(shards: list[Path], columns: dict[str, str]) -> Iterator[Record]:
    records = ((path, record) for path in shards for record in _records(path, list(columns.values())))
    for row, (path, record) in enumerate(records):
        for kind, column in columns.items():
            yield f"{row:06d}", kind, _bytes(record[column], f"{path}: row {row}, column {column!r}", path.parent)


def _records(path: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        hint = "pip install 'heteroseg[huggingface]'"
        raise HeterosegError(f"reader huggingface: pyarrow is not installed; {hint}") from None
    try:
        if path.suffix == ".parquet":
            file = pyarrow.parquet.ParquetFile(path)
            there, tables = file.schema_arrow.names, file.iter_batches(batch_size=16, columns=columns)
        else:
            tables = pyarrow.ipc.open_stream(path)
            there = tables.schema.names
        fault = f"{path}: expected a column {{!r}}, found {', '.join(there)}; set `image` and `mask`{{}}"
        raise_faults([fault.format(c, nearest(c, there)) for c in columns if c not in there])
        for table in tables:
            yield from table.select(columns).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise HeterosegError(f"{path}: cannot be read, {str(error).splitlines()[0]}; download it again") from None


def _bytes(cell: Any, where: str, folder: Path) -> bytes:
    """The bytes in a cell, or of the file that it names."""
    data, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
    if isinstance(data, bytes):
        return data
    if isinstance(path, str) and (file := below(folder, path, where)).is_file():
        return bytes_of(file)
    raise HeterosegError(f"{where}: expected the bytes of an image, found {cell!r:.60}; embed the files in the dataset")
