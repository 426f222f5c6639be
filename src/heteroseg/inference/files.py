"""Predictions for files, folders and videos, written so that a stopped run can go on where it was."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from heteroseg.datasets import read_image
from heteroseg.errors import HeterosegError
from heteroseg.files import write_json, written
from heteroseg.inference.pictures import colorise, entries, legend, overlay
from heteroseg.labels.space import LabelSpace, node_space
from heteroseg.labels.taxonomy import Taxonomy
from heteroseg.model.model import Model
from heteroseg.model.prediction import Prediction

IMAGES = {".png", ".jpg", ".jpeg", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp"}
VIDEOS = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"}


@dataclass(frozen=True)
class Job:
    """One input file and the output path that it leads to, without an ending."""

    source: Path
    target: Path


def list_jobs(inputs: Sequence[str | Path], out: Path) -> list[Job]:
    """Files and folders to jobs. Folders keep their structure below `out`, which is not searched if it lies in them.

    Two inputs with one output, and an output that would replace an input, are errors.
    """
    jobs: dict[Path, Job] = {}
    whole = out.resolve()
    if whole.exists() and not whole.is_dir():
        raise HeterosegError(f"{out}: expected a folder for the predictions, found a file; choose another --out")
    for name in inputs:
        path = Path(name)
        if path.is_dir():
            if path.resolve() == whole:
                raise HeterosegError(
                    f"{out}: is the folder of the inputs; choose another --out, so that none is replaced"
                )
            files = (p for p in path.rglob("*") if p.suffix.lower() in IMAGES | VIDEOS and p.is_file())
            found = sorted(p for p in files if whole not in p.resolve().parents)
            if not found:
                raise HeterosegError(f"{path}: expected images or videos in this folder, found none")
            pairs = [(p, out / p.relative_to(path).with_suffix("")) for p in found]
        elif not path.exists():
            raise HeterosegError(f"{path}: expected an image, a video or a folder, found no such file")
        elif path.suffix.lower() not in IMAGES | VIDEOS:
            raise HeterosegError(f"{path}: expected an image or a video, found the ending {path.suffix or '(none)'!r}")
        else:
            pairs = [(path, out / path.stem)]
        for source, target in pairs:
            if target in jobs and jobs[target].source != source:
                raise HeterosegError(
                    f"{source} and {jobs[target].source} would both be written to {target}.png; give them in two runs "
                    "with another --out"
                )
            jobs[target] = Job(source, target)
    outputs = {_beside(t, e).resolve(): t for t in jobs for e in (".png", "_overlay.jpg", "_overlay.mp4")}
    for job in jobs.values():
        if job.source.resolve() in outputs:
            raise HeterosegError(f"{job.source}: a prediction would replace this input; choose another --out")
    return list(jobs.values())


def count_labels(positions: np.ndarray, space: LabelSpace) -> np.ndarray:
    """(labels + 1,) int64 pixels of each label, those outside the space last."""
    counts = np.bincount(positions.ravel() + 1, minlength=len(space.labels) + 1)
    return np.roll(counts, -1)


def summary(counts: np.ndarray, space: LabelSpace, size: tuple[int, ...], frames: int = 1) -> dict:
    """What was found: pixels and share of every label that occurs, the largest first."""
    order = np.argsort(-counts[:-1], kind="stable")
    labels = {
        space.labels[i].name: {
            "id": space.labels[i].id, "pixels": int(counts[i]), "share": round(float(counts[i] / counts.sum()), 6),
        }
        for i in order if counts[i]
    }  # fmt: skip
    return {
        "label_space": space.name,
        "size": list(size),
        "frames": frames,
        "outside": int(counts[-1]),
        "labels": labels,
    }


def _encode(path: Path, temporary: Path, pixels: np.ndarray, options: Sequence[int] = ()) -> None:
    if not cv2.imwrite(str(temporary), pixels, options):
        raise HeterosegError(f"{path}: could not be written; is the disk full?")


def write_map(path: Path, ids: np.ndarray) -> None:
    """(H, W) uint8 or uint16 ids as a grey PNG of 8 or 16 bits."""
    with written(path) as temporary:
        _encode(path, temporary, ids)


def native_ids(positions: np.ndarray, space: LabelSpace) -> np.ndarray:
    """(H, W) native ids of a label map: uint8 where all ids of the space fit, else uint16."""
    ids = space.native_ids(positions)
    if ids.dtype == np.int64:
        raise HeterosegError(
            f"label space {space.name!r}: id {max(*space.ids, space.outside)} does not fit into a 16-bit PNG; choose a "
            "space of smaller ids"
        )
    return ids


def write_ids(path: Path, positions: np.ndarray, space: LabelSpace) -> None:
    """Native ids of a label map as a grey PNG: 8 bits where all ids of the space fit, else 16."""
    write_map(path, native_ids(positions, space))


def encode_ids(positions: np.ndarray, space: LabelSpace) -> bytes:
    """The bytes of the file that `write_ids` writes."""
    return cv2.imencode(".png", native_ids(positions, space))[1].tobytes()


def picture(image: np.ndarray, positions: np.ndarray, space: LabelSpace) -> np.ndarray:
    """(H + legend, W, 3) uint8: the image under its label colours, and below it the names of what was found."""
    painted = overlay(image, colorise(positions, space))
    return np.concatenate([painted, legend(painted.shape[1], entries(positions, space))])


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(target.name + ending)


def back_off_space(tree: Taxonomy, least: float) -> LabelSpace:
    """The label space of all nodes; its name tells `least`, so that a folder never mixes two of them."""
    return node_space(tree, f"nodes of probability {least:g}")


def _answer(said: Prediction, space: LabelSpace, back_off: float | None) -> np.ndarray:
    return said.positions(space) if back_off is None else said.nodes(back_off)


def _one_image(model: Model, job: Job, space: LabelSpace, with_overlay: bool, back_off: float | None) -> None:
    """Predict and write; the JSON comes last and tells a later run that this one is done."""
    image = read_image(job.source)
    positions = _answer(model.predict(image), space, back_off)
    write_ids(_beside(job.target, ".png"), positions, space)
    if with_overlay:
        with written(_beside(job.target, "_overlay.jpg")) as temporary:
            pixels = np.ascontiguousarray(picture(image, positions, space)[..., ::-1])
            _encode(_beside(job.target, "_overlay.jpg"), temporary, pixels, (cv2.IMWRITE_JPEG_QUALITY, 92))
    write_json(
        _beside(job.target, ".json"),
        {"model": model.digest} | summary(count_labels(positions, space), space, positions.shape),
    )


def _frames(video: cv2.VideoCapture) -> Iterator[np.ndarray]:
    while True:
        more, frame = video.read()
        if not more:
            return
        yield np.ascontiguousarray(frame[..., ::-1])


def _one_video(model: Model, job: Job, space: LabelSpace, with_overlay: bool, back_off: float | None) -> None:
    """Frames to TARGET/000000.png ..., and with an overlay to TARGET_overlay.mp4 at the speed of the source."""
    video = cv2.VideoCapture(str(job.source))
    size = (int(video.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(video.get(cv2.CAP_PROP_FRAME_WIDTH)))
    if not video.isOpened() or not all(size):
        raise HeterosegError(f"{job.source}: expected a video, found a file that cannot be decoded")
    rate = video.get(cv2.CAP_PROP_FPS) or 25.0
    counts, frames = np.zeros(len(space.labels) + 1, np.int64), 0
    with written(_beside(job.target, "_overlay.mp4")) if with_overlay else nullcontext() as temporary:
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(temporary), codec, rate, size[::-1]) if temporary else None
        if writer and not writer.isOpened():
            raise HeterosegError(f"{job.target}_overlay.mp4: this OpenCV cannot write videos; leave out --overlay")
        for frames, frame in enumerate(_frames(video), 1):
            positions = _answer(model.predict(frame), space, back_off)
            write_ids(job.target / f"{frames - 1:06d}.png", positions, space)
            counts += count_labels(positions, space)
            if writer:
                writer.write(np.ascontiguousarray(overlay(frame, colorise(positions, space))[..., ::-1]))
        if writer:
            writer.release()
        video.release()
        if not frames:
            raise HeterosegError(f"{job.source}: expected a video, found no frame in it")
    write_json(_beside(job.target, ".json"), {"model": model.digest} | summary(counts, space, size, frames))


def _done_in(path: Path, model: Model, space: LabelSpace) -> bool:
    """Whether an earlier run finished this input; one of another model or label space must not be mixed with this."""
    if not path.exists():
        return False
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        before = (found["model"], found["label_space"])
    except (ValueError, KeyError, TypeError):
        raise HeterosegError(f"{path}: expected a file of an earlier prediction; choose another --out") from None
    if before[1] != space.name:
        raise HeterosegError(
            f"{path}: was predicted in label space {before[1]!r}, now {space.name!r} is asked for; choose another --out"
        )
    if before[0] != model.digest:
        raise HeterosegError(f"{path}: was predicted by a model with other weights; choose another --out")
    return True


def predict_files(
    model: Model,
    inputs: Sequence[str | Path],
    out: Path,
    space: LabelSpace,
    with_overlay: bool = False,
    progress: Callable[[Job, bool], None] = lambda job, done_before: None,
    back_off: float | None = None,
) -> int:
    """Predict every input into `out`: NAME.png (native ids of `space`), NAME.json, with an overlay NAME_overlay.jpg.

    With `back_off`, the least probability of a decision, the answers are nodes, and `space` is what `back_off_space`
    gives.

    What is there from an earlier run of the same model is kept and not worked out again. Returns the number of inputs.
    """
    jobs = list_jobs(inputs, out)
    for job in jobs:
        is_video = job.source.suffix.lower() in VIDEOS
        painted = _beside(job.target, "_overlay.mp4" if is_video else "_overlay.jpg")
        ids = job.target if is_video else _beside(job.target, ".png")
        done = (
            _done_in(_beside(job.target, ".json"), model, space)
            and ids.exists()
            and (painted.exists() or not with_overlay)
        )
        progress(job, done)
        if not done:
            (_one_video if is_video else _one_image)(model, job, space, with_overlay, back_off)
    return len(jobs)
