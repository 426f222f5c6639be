"""Predictions for files, folders and videos, written so that a stopped run can go on where it was."""

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from heteroseg.datasets import read_image
from heteroseg.datasets.encoding import write_pixels
from heteroseg.datasets.paths import IMAGE_SUFFIXES
from heteroseg.errors import HeterosegError
from heteroseg.files import write_json
from heteroseg.inference.pictures import colorise, entries, legend, overlay
from heteroseg.inference.video import Video, write_video
from heteroseg.labels.space import LabelSpace, node_space
from heteroseg.labels.taxonomy import Taxonomy
from heteroseg.model.model import Model

VIDEOS = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"}


@dataclass(frozen=True)
class Job:
    """One input file and the output path that it leads to, without an ending."""

    source: Path
    target: Path


def _jobs_of(path: Path, out: Path) -> list[Job]:
    """The images and videos that a name stands for."""
    if path.is_dir():
        whole = out.resolve()
        if path.resolve() == whole:
            raise HeterosegError(f"{out}: is the folder of the inputs; choose another --out, so that none is replaced")
        files = (p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES | VIDEOS and p.is_file())
        inputs = sorted(p for p in files if whole not in p.resolve().parents)
        if not inputs:
            raise HeterosegError(f"{path}: expected images or videos in this folder, found none")
        return [Job(p, out / p.relative_to(path).with_suffix("")) for p in inputs]
    if not path.exists():
        raise HeterosegError(f"{path}: expected an image, a video or a folder, found no such file")
    if path.suffix.lower() not in IMAGE_SUFFIXES | VIDEOS:
        raise HeterosegError(f"{path}: expected an image or a video, found the ending {path.suffix or '(none)'!r}")
    return [Job(path, out / path.stem)]


def list_jobs(inputs: Sequence[str | Path], out: Path) -> list[Job]:
    """Files and folders to jobs. Folders keep their structure below `out`, which is not searched if it lies in them.

    Two inputs with one output, and an output that would replace an input, are errors.
    """
    if out.exists() and not out.is_dir():
        raise HeterosegError(f"{out}: expected a folder for the predictions, found a file; choose another --out")
    jobs: dict[Path, Job] = {}
    for job in (job for name in inputs for job in _jobs_of(Path(name), out)):
        other = jobs.setdefault(job.target, job).source
        if other != job.source:
            both = f"{job.source} and {other} would both be written to {job.target}.png"
            raise HeterosegError(f"{both}; give them in two runs with another --out")
    outputs = {_with_ending(t, e).resolve() for t in jobs for e in (".png", "_overlay.jpg", "_overlay.mp4")}
    for job in jobs.values():
        if job.source.resolve() in outputs:
            raise HeterosegError(f"{job.source}: a prediction would replace this input; choose another --out")
    return list(jobs.values())


def count_labels(label_indices: np.ndarray, space: LabelSpace) -> np.ndarray:
    """(labels + 1,) int64 pixels of each label, those outside the space last."""
    counts = np.bincount(label_indices.ravel() + 1, minlength=len(space.labels) + 1)
    return np.roll(counts, -1)


def summary(counts: np.ndarray, space: LabelSpace, size: tuple[int, ...], frames: int = 1) -> dict:
    """What was found: pixels and share of every label that occurs, the largest first."""
    order = np.argsort(-counts[:-1], kind="stable")
    lines = [(space.labels[i], int(counts[i]), round(float(counts[i] / counts.sum()), 6)) for i in order if counts[i]]
    labels = {label.name: {"id": label.id, "pixels": pixels, "share": share} for label, pixels, share in lines}
    whole = {"label_space": space.name, "size": list(size), "frames": frames, "outside": int(counts[-1])}
    return whole | {"labels": labels}


def native_ids(label_indices: np.ndarray, space: LabelSpace) -> np.ndarray:
    """(H, W) native ids of a label map: uint8 where all ids of the space fit, else uint16."""
    ids = space.native_ids(label_indices)
    if ids.dtype == np.int64:
        told = "does not fit into a 16-bit PNG; choose a space of smaller ids"
        raise HeterosegError(f"label space {space.name!r}: id {max(*space.ids, space.outside)} {told}")
    return ids


def write_ids(path: Path, label_indices: np.ndarray, space: LabelSpace) -> None:
    """Native ids of a label map as a grey PNG: 8 bits where all ids of the space fit, else 16."""
    write_pixels(path, native_ids(label_indices, space))


def encode_ids(label_indices: np.ndarray, space: LabelSpace) -> bytes:
    """The bytes of the file that `write_ids` writes."""
    return cv2.imencode(".png", native_ids(label_indices, space))[1].tobytes()


def picture(image: np.ndarray, label_indices: np.ndarray, space: LabelSpace) -> np.ndarray:
    """(H + legend, W, 3) uint8: the image under its label colours, and below it the names of what was found."""
    painted = overlay(image, colorise(label_indices, space))
    return np.concatenate([painted, legend(painted.shape[1], entries(label_indices, space))])


def _with_ending(target: Path, ending: str) -> Path:
    return target.with_name(target.name + ending)


def back_off_space(tree: Taxonomy, min_probability: float) -> LabelSpace:
    """The label space of all nodes; its name holds `min_probability`, so that a folder never mixes two of them."""
    return node_space(tree, f"nodes of probability {min_probability:g}")


Answer = Callable[[np.ndarray], np.ndarray]  # an image to indices of labels


def _label_image(source: Path, ids: Path, painted: Path | None, answer: Answer, space: LabelSpace) -> dict:
    image = read_image(source)
    label_indices = answer(image)
    write_ids(ids, label_indices, space)
    if painted:
        pixels = np.ascontiguousarray(picture(image, label_indices, space)[..., ::-1])
        write_pixels(painted, pixels, (cv2.IMWRITE_JPEG_QUALITY, 92))
    return summary(count_labels(label_indices, space), space, label_indices.shape)


def _label_video(source: Path, ids: Path, painted: Path | None, answer: Answer, space: LabelSpace) -> dict:
    """Frames to IDS/000000.png ..., and perhaps under their colours to a video at the speed of the source."""
    video, counts, frames = Video(source), np.zeros(len(space.labels) + 1, np.int64), 0
    with write_video(painted, "mp4v", video) if painted else nullcontext() as write:
        for frames, frame in enumerate(video, 1):
            label_indices = answer(frame)
            write_ids(ids / f"{frames - 1:06d}.png", label_indices, space)
            counts += count_labels(label_indices, space)
            if write:
                write(overlay(frame, colorise(label_indices, space)))
    return summary(counts, space, video.size, frames)


def _done_in(path: Path, model: Model, space: LabelSpace) -> bool:
    """Whether an earlier run finished this input; one of another model or label space must not be mixed with this."""
    if not path.exists():
        return False
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        digest, space_name = summary["model"], summary["label_space"]
    except (ValueError, KeyError, TypeError):
        raise HeterosegError(f"{path}: expected a file of an earlier prediction; choose another --out") from None
    if space_name != space.name:
        other = f"was predicted in label space {space_name!r}, now {space.name!r} is asked for"
        raise HeterosegError(f"{path}: {other}; choose another --out")
    if digest != model.digest:
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

    def answer(image: np.ndarray) -> np.ndarray:
        prediction = model.predict(image)
        return prediction.label_indices(space) if back_off is None else prediction.nodes(back_off)

    jobs = list_jobs(inputs, out)
    for job in jobs:
        is_video = job.source.suffix.lower() in VIDEOS
        ids = job.target if is_video else _with_ending(job.target, ".png")
        painted = _with_ending(job.target, "_overlay.mp4" if is_video else "_overlay.jpg") if with_overlay else None
        told = _with_ending(job.target, ".json")  # written last, so that it tells a later run that this input is done
        done = _done_in(told, model, space) and ids.exists() and (painted is None or painted.exists())
        progress(job, done)
        if not done:
            content = (_label_video if is_video else _label_image)(job.source, ids, painted, answer, space)
            write_json(told, {"model": model.digest} | content)
    return len(jobs)
