"""Predictions over large collections on Ray Data: local or on a cluster, from and to any fsspec path, resumable.

DEST holds `job.json` (what is predicted how), `labels/PATH.png` (native ids) for every image of SOURCE, and
`manifest/*.parquet`, one file for each batch, written after the label maps of the batch: a file is done when a manifest
names it, so a killed job begins again at the first batch that has none. At the end `manifest.parquet` has one row for
each file, and `summary.json` tells what was seen.
"""

import hashlib
import io
import json
import logging
import os
import signal
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import cv2
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from tqdm import tqdm

from heteroseg.datasets import decode_image
from heteroseg.datasets.image_files import bytes_of
from heteroseg.datasets.paths import IMAGE_SUFFIXES, is_hidden, walk
from heteroseg.errors import HeterosegError, counted, require_count
from heteroseg.files import parse_json
from heteroseg.labels.space import OUTSIDE_NAME
from heteroseg.model.answer_files import count_labels, decided_by, encode_ids, require_same
from heteroseg.model.devices import require_device
from heteroseg.model.model import load
from heteroseg.writing import alone, is_part, require_apart, require_folder, written

SCHEMA = pa.schema(
    [
        ("source", pa.string()),  # path below SOURCE
        ("labels", pa.string()),  # path of the label map below DEST
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("confidence", pa.float32()),  # mean probability of the answers, of one pixel in 49
        ("pixels", pa.map_(pa.string(), pa.int64())),  # by name of the label; "(outside)" is none of them
        ("error", pa.string()),
        ("version", pa.string()),  # of the image: its bytes, and its time or the store's digest
        ("digest", pa.string()),  # of the image; where both are others by now, it is labelled again
        ("map", pa.string()),  # digest of the label map: one that was changed since is not replaced
    ]
)
JOB = b"job"
"""Where a manifest holds what job.json says, in case that one is damaged."""
KEPT = "what is labelled is kept: give the same command again"
LEAST_SURE = 20  # images that the summary names
ITEM = ("source", "version", "map")  # what a worker is told of an image
NOT_UTF8 = "its path is not UTF-8, which a manifest cannot hold; rename it, or take `heteroseg predict`"
STAMPS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created")  # of file systems


class Place:
    """A folder on any file system that fsspec knows; a wrong address raises HeterosegError."""

    def __init__(self, url: str):
        try:
            file_system, root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise HeterosegError(f"{url}: cannot be opened, {str(error).splitlines()[0]}") from None
        self.url = url
        self.local = Path(os.path.realpath(root)) if isinstance(file_system, LocalFileSystem) else None
        self.whole = str(self.local or url)
        self.files = DirFileSystem(root, file_system)

    def names(self) -> list[str]:
        """All files below, as paths from here, sorted."""
        return sorted(self.files.find("")) if self.files.exists("") else []

    def images(self) -> dict[str, str]:
        """The images below by their paths from here, sorted, with what tells that one has changed."""
        if self.local and self.local.is_dir():
            places = {path: path.stat() if path.exists() else path.lstat() for path in walk(self.local)}
            names = {path.relative_to(self.local).as_posix(): s for path, s in places.items()}
            return {name: f"{s.st_size} {s.st_mtime_ns} {s.st_ctime_ns}" for name, s in sorted(names.items())}
        files = self.files.find("", detail=True) if self.files.exists("") else {}
        shown = {name: info for name, info in sorted(files.items()) if not any(map(is_hidden, Path(name).parts))}
        images = {name: info for name, info in shown.items() if Path(name).suffix.lower() in IMAGE_SUFFIXES}
        return {n: " ".join(str(i[key]) for key in ("size", *STAMPS) if i.get(key)) for n, i in images.items()}

    def read(self, name: str) -> bytes:
        return bytes_of(self.local / name) if self.local else self.files.cat_file(name)

    def clear(self) -> None:
        """Remove what killed workers left half written."""
        for name in filter(is_part, self.names()):
            self.files.rm_file(name)

    def write(self, name: str, data: bytes) -> None:
        """Whole or not at all: a rename on disks, one put on object stores."""
        if self.local:
            with written(self.local / name) as temporary:
                temporary.write_bytes(data)
        else:
            self.files.pipe_file(name, data)


class Labeller:
    """What runs in every worker: the model is loaded once, then batches of paths come."""

    def __init__(self, model: str, labels: str, source: str, dest: str, device: str, threads: int, as_stored=False):
        cv2.setNumThreads(threads)
        if device == "cpu":
            torch.set_num_threads(threads)
        self.model = load(model, device)
        self.space = self.model.space(labels)
        self.source, self.dest, self.upright = Place(source), Place(dest), not as_stored
        self.job = decided_by(self.model, self.space, as_stored) | {"source": self.source.whole}

    def row(self, name: str, version: str, there: str) -> dict[str, Any]:
        """Label one image. `there` is the digest of its label map, '?' where that is not known, '' for none."""
        target = f"labels/{name}.png"
        try:
            data = self.source.read(name)
            image = decode_image(data, Path(name), self.upright)
            prediction = self.model.predict(image)
            label_indices, confidence = prediction.label_indices(self.space), prediction.mean_confidence(self.space)
            label_map = encode_ids(label_indices, self.space)
            if there and digest(old := self.dest.files.cat_file(target)) != there and old != label_map:
                told = "stands there and is not, or not any more, what heteroseg wrote; take it away"
                raise HeterosegError(f"{self.dest.url}/{target}: {told}")
            self.dest.write(target, label_map)
        except (HeterosegError, OSError) as error:
            return {"source": name, "error": str(error)}
        names = [*(label.name for label in self.space.labels), OUTSIDE_NAME]
        counts = zip(names, count_labels(label_indices, self.space).tolist(), strict=True)
        row = {"source": name, "labels": target, "version": version, "digest": digest(data), "map": digest(label_map)}
        row |= dict(zip(("height", "width"), label_indices.shape, strict=True))
        return row | {"confidence": confidence, "pixels": [(n, count) for n, count in counts if count]}

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        rows = [self.row(*map(str, image)) for image in zip(*(batch[key] for key in ITEM), strict=True)]
        key = hashlib.sha256("\n".join(str(name) for name in batch["source"]).encode()).hexdigest()[:24]
        self.dest.write(f"manifest/{key}.parquet", parquet(rows, self.job))
        return {"error": np.array(["error" in row for row in rows])}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def parquet(rows: Sequence[dict[str, Any]], job: Mapping[str, Any]) -> bytes:
    """Rows as the bytes of a Parquet file of SCHEMA that also holds the job; what a row lacks is null."""
    buffer, schema = io.BytesIO(), SCHEMA.with_metadata({JOB: json.dumps(job).encode()})
    pq.write_table(pa.Table.from_pylist(list(rows), schema), buffer)
    return buffer.getvalue()


def _manifests(dest: Place, names: Sequence[str]) -> Iterator[pa.Table]:
    """The manifests of the batches. The images of one that is damaged are labelled again."""
    for name in names:
        if name.startswith("manifest/") and name.endswith(".parquet"):
            with suppress(pa.ArrowException, OSError):
                yield pq.read_table(io.BytesIO(dest.files.cat_file(name)))


def read_rows(inputs: Place, dest: Place, versions: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """One row for each source in the manifests; one without a fault counts more than one with.

    `versions` are those of the sources. Where an image has changed, or its label map is gone, that is the row's fault.
    """
    names = dest.names()
    rows: dict[str, dict[str, Any]] = {}
    blank = dict.fromkeys(SCHEMA.names)  # older manifests lack columns
    for row in (blank | row for table in _manifests(dest, names) for row in table.to_pylist()):
        if row["error"] is None and row["source"] in versions:
            row["error"] = _changed(inputs, row, versions[row["source"]], names)
        if row["source"] not in rows or row["error"] is None:
            rows[row["source"]] = row
    return rows


def _changed(inputs: Place, row: Mapping[str, Any], version: str, names: Sequence[str]) -> str | None:
    """Why an answer is none any more."""
    if names[bisect_left(names, row["labels"]) :][:1] != [row["labels"]]:
        return "its label map is gone"
    if row["version"] == version or row["digest"] == digest(inputs.read(row["source"])):
        return None
    return "the image has changed since"


def begin(dest: Place, names: Sequence[str], job: dict[str, Any]) -> None:
    """Note what is done here, or make sure that it is the same as before."""
    found = dest.files.cat_file("job.json") if "job.json" in names else b""
    told = _job(found) or next((known for t in _manifests(dest, names) if (known := _job(t.schema.metadata))), None)
    if told:
        require_same(dest.url, told, job)
    elif found:
        fault = "expected what was predicted here, found a damaged file, and no manifest that tells it"
        raise HeterosegError(f"{dest.url}/job.json: {fault}; choose another --out")
    elif not all(map(is_hidden, {*names} - {"job.json"})):
        raise HeterosegError(f"{dest.url}: expected a new or empty folder, or one of this command; choose another")
    if _job(found) is None:
        dest.write("job.json", json.dumps(job, indent=2).encode())


def _job(found: bytes | Mapping[bytes, bytes] | None) -> dict[str, Any] | None:
    """A job as job.json or the metadata of a manifest hold it; None where that is damaged or there is none."""
    text = found if isinstance(found, bytes) else (found or {}).get(JOB, b"")
    with suppress(HeterosegError):
        job = parse_json(text, "job.json")
        return job if isinstance(job, dict) and "model" in job else None
    return None


def summarise(rows: Sequence[dict[str, Any]], seconds: float, new: int) -> dict[str, Any]:
    """Totals over all rows, and the images that the network is least sure of."""
    good = [row for row in rows if row["error"] is None]
    totals = sum((Counter(dict(row["pixels"])) for row in good), Counter[str]())
    unsure = sorted(good, key=lambda row: row["confidence"])[:LEAST_SURE]
    return {
        "images": len(good),
        "faults": {row["source"]: row["error"] for row in rows if row["error"] is not None},
        "new": new,
        "seconds": round(seconds, 2),
        "images_per_second": round(new / seconds, 2) if seconds else None,
        "pixels": dict(totals.most_common()),
        "least_sure": {row["source"]: round(row["confidence"], 4) for row in unsure},
    }


def predict_collection(
    model: str,
    source: str,
    dest: str,
    labels: str = "leaves",
    workers: int = 2,
    batch: int = 32,
    device: str = "cpu",
    address: str | None = None,
    log: Callable[[str], None] = lambda _: None,
    as_stored: bool = False,
) -> dict[str, Any]:
    """Label every image below `source` into `dest`; what is done there already is kept. Returns the summary.

    `workers` processes hold the model, on a cluster at `address` or here; `batch` images are done or not done
    together. One job at a time may write to `dest`. `as_stored`: images are not turned as their EXIF orientation says.
    """
    require_count("workers", workers)
    require_count("batch", batch)
    if address is None:  # else it is one of the cluster's
        require_device(device)
    loaded = load(model, "cpu")
    space = loaded.space(labels)
    inputs, outputs = Place(source), Place(dest)
    every = inputs.images()
    images = {name: version for name, version in every.items() if _is_utf8(name)}
    if not every:
        raise HeterosegError(f"{source}: expected images ({', '.join(sorted(IMAGE_SUFFIXES))}) below it, found none")
    if inputs.local and outputs.local and outputs.local.is_relative_to(inputs.local):
        raise HeterosegError(f"{dest}: lies in the folder of the images; choose another --out")
    job = decided_by(loaded, space, as_stored) | {"source": inputs.whole}
    if outputs.local:
        require_folder(outputs.local)
        require_apart(outputs.local, images)
    with alone(outputs.local) if outputs.local else nullcontext():
        names = [name for name in outputs.names() if not is_part(name)]
        begin(outputs, names, job)
        outputs.clear()
        before = read_rows(inputs, outputs, images)
        left = {name: "" for name in images if name not in before or before[name]["error"] is not None}
        for name in left.keys() & {n.removeprefix("labels/").removesuffix(".png") for n in names}:
            left[name] = before.get(name, {}).get("map") or "?"
        log(f"{counted(len(images), 'image')}, {len(images) - len(left)} done before")
        started = time.monotonic()
        if left:
            items = [dict(zip(ITEM, (name, images[name], label_map), strict=True)) for name, label_map in left.items()]
            try:
                _run(items, (model, labels, source, dest, device), workers, batch, address, as_stored)
            finally:
                outputs.clear()
        seconds = time.monotonic() - started
        rows = read_rows(inputs, outputs, images)
        blank = dict.fromkeys(SCHEMA.names) | {"error": NOT_UTF8}
        kept = [rows[name] if name in images else blank | {"source": ascii(name)} for name in every]
        outputs.write("manifest.parquet", parquet([row | {"pixels": list(row["pixels"] or ())} for row in kept], job))
        result = summarise(kept, seconds, len(left))
        outputs.write("summary.json", json.dumps(result, indent=2).encode())
        return result


def _is_utf8(name: str) -> bool:
    return name.encode(errors="replace").decode() == name


def _run(
    items: list[dict[str, str]], job: tuple[str, ...], workers: int, batch: int, address: str | None, as_stored: bool
) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody; read when Ray starts
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    local: Any = {"num_cpus": workers, "include_dashboard": False} if address is None else {}
    heeded = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **local)
    try:
        with suppress(ValueError):  # not in the main thread
            for number, handler in heeded.items():
                signal.signal(number, handler)  # Ray's own aborts
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        DataContext.get_current().enable_progress_bars = False
        threads = max(1, (os.cpu_count() or 1) // workers) if address is None else 1
        options: Any = {"num_gpus": 1} if job[-1].startswith("cuda") else {"num_cpus": 1}  # the device
        data = ray.data.from_items(items, override_num_blocks=-(-len(items) // batch))
        options |= {"compute": ActorPoolStrategy(size=workers), "fn_constructor_args": (*job, threads, as_stored)}
        done = data.map_batches(Labeller, batch_size=batch, **options)
        with tqdm(total=len(items), unit="image", dynamic_ncols=True) as bar:
            for part in done.iter_batches(batch_size=None, prefetch_batches=0):
                bar.update(len(part["error"]))
    except ray.exceptions.RayError as error:
        raise HeterosegError(f"a worker ended, {str(error).strip().splitlines()[-1]}; {KEPT}") from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; {KEPT}") from None
    finally:
        ray.shutdown()
