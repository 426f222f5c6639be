"""Writers of shards."""

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heteroseg.datasets.sample import Sample
from heteroseg.scenes.layouts import mask_of
from heteroseg.writing import written
from tests.writers.pixels import encoded


def write_huggingface(root: Path | str, split: str, samples: list[Sample]) -> None:
    """Write data/SPLIT-00000-of-00001.parquet with the columns image and mask, in the order of the samples."""
    pyarrow = pytest.importorskip("pyarrow", reason="the extra huggingface is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")

    def cell(pixels: np.ndarray, name: str) -> dict[str, Any]:
        return {"bytes": encoded(pixels, ".png"), "path": f"{name}.png"}

    rows = [
        {"image": cell(sample.image, sample.name), "mask": cell(mask_of(sample).astype(np.uint16), sample.name)}
        for sample in samples
    ]
    with written(Path(root, "data", f"{split}-00000-of-00001.parquet")) as temporary:
        parquet.write_table(pyarrow.Table.from_pylist(rows), temporary)


SHARD = 1000  # samples that are written to one


def write_webdataset(root: Path | str, split: str, samples: list[Sample]) -> None:
    """Write SPLIT-000000.tar and so on with KEY.jpg (lossy) and KEY.png (16-bit ids), in the order of the samples."""
    for start in range(0, len(samples), SHARD):
        with written(Path(root, f"{split}-{start // SHARD:06d}.tar")) as temporary, tarfile.open(temporary, "w") as tar:
            for sample in samples[start : start + SHARD]:
                for ending, pixels in ((".jpg", sample.image), (".png", mask_of(sample).astype(np.uint16))):
                    data = encoded(pixels, ending)
                    info = tarfile.TarInfo(sample.name + ending)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
