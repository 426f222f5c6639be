"""Predictions for files, folders and videos, written so that a stopped run can go on where it was."""

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from heteroseg.datasets import read_image
from heteroseg.datasets.paths import IMAGE_SUFFIXES
from heteroseg.errors import HeterosegError
from heteroseg.files import write_json, written
from heteroseg.inference.pictures import colorise, entries, legend, overlay
from heteroseg.inference.video import Video, write_video
from heteroseg.labels.space import LabelSpace, node_space
from heteroseg.labels.taxonomy import Taxonomy
from heteroseg.model.model import Model
from heteroseg.model.prediction import Prediction

VIDEOS = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"}


@dataclass(frozen=True)
class Job:
    """One input file and the output path that it leads to, without an ending."""

    source: Path
    target: Path


def _inputs_of(path: Path, out: Path) -> list[tuple[Path, Path]]:
    """The images and videos that a name stands for, each with its output path without an ending."""
    if path.is_dir():
        whole = out.resolve()
        if path.resolve() == whole:
            raise HeterosegError(f"{out}: is the folder of the inputs; choose another --out, so that none is replaced")
        files = (p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES | VIDEOS and p.is_file())
        inputs = sorted(p for p in files if whole not in p.resolve().parents)
        if not inputs:
            raise HeterosegError(f"{path}: expected images or videos in this folder, found none")
        return [(p, out / p.relative_to(path).with_suffix("")) for p in inputs]
    if not path.exists():
        raise HeterosegError(f"{path}: expected an image, a video or a folder, found no such file")
    if path.suffix.lower() not in IMAGE_SUFFIXES | VIDEOS:
        raise HeterosegError(f"{path}: expected an image or a video, found the ending {path.suffix or '(none)'!r}")
    return [(path, out / path.stem)]


def list_jobs(inputs: Sequence[str | Path], out: Path) -> list[Job]:
    """Files and folders to jobs. Folders keep their structure below `out`, which is not searched if it lies in them.

    Two inputs with one output, and an output that would replace an input, are errors.
    """
    if out.exists() and not out.is_dir():
        raise HeterosegError(f"{out}: expected a folder for the predictions, found a file; choose another --out")
    jobs: dict[Path, Job] = {}
    for source, target in (pair for name in inputs for pair in _inputs_of(Path(name), out)):
        if target in jobs and jobs[target].source != source:
            raise HeterosegError(
                f"{source} and {jobs[target].source} would both be written to {target}.png; give them in two runs "
                "with another --out"
            )
        jobs[target] = Job(source, target)
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


def write_map(path: Path, pixels: np.ndarray, options: Sequence[int] = ()) -> None:
    """(H, W) uint8 or uint16 ids as a grey PNG of 8 or 16 bits, or what else OpenCV writes by the ending of `path`."""
    with written(path) as temporary:
        if not cv2.imwrite(str(temporary), pixels, options):
            raise HeterosegError(f"{path}: could not be written; is the disk full?")


def native_ids(label_indices: np.ndarray, space: LabelSpace) -> np.ndarray:
    """(H, W) native ids of a label map: uint8 where all ids of the space fit, else uint16."""
    ids = space.native_ids(label_indices)
    if ids.dtype == np.int64:
        raise HeterosegError(
            f"label space {space.name!r}: id {max(*space.ids, space.outside)} does not fit into a 16-bit PNG; choose a "
            "space of smaller ids"
        )
    return ids


def write_ids(path: Path, label_indices: np.ndarray, space: LabelSpace) -> None:
    """Native ids of a label map as a grey PNG: 8 bits where all ids of the space fit, else 16."""
    write_map(path, native_ids(label_indices, space))


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


def _answer(prediction: Prediction, space: LabelSpace, back_off: float | None) -> np.ndarray:
    return prediction.label_indices(space) if back_off is None else prediction.nodes(back_off)


def _one_image(model: Model, job: Job, space: LabelSpace, with_overlay: bool, back_off: float | None) -> None:
    """Predict and write; the JSON comes last and tells a later run that this one is done."""
    image = read_image(job.source)
    label_indices = _answer(model.predict(image), space, back_off)
    write_ids(_with_ending(job.target, ".png"), label_indices, space)
    if with_overlay:
        pixels = np.ascontiguousarray(picture(image, label_indices, space)[..., ::-1])
        write_map(_with_ending(job.target, "_overlay.jpg"), pixels, (cv2.IMWRITE_JPEG_QUALITY, 92))
    write_json(
        _with_ending(job.target, ".json"),
        {"model": model.digest} | summary(count_labels(label_indices, space), space, label_indices.shape),
    )


def _one_video(model: Model, job: Job, space: LabelSpace, with_overlay: bool, back_off: float | None) -> None:
    """Frames to TARGET/000000.png ..., and with an overlay to TARGET_overlay.mp4 at the speed of the source."""
    video, counts, frames = Video(job.source), np.zeros(len(space.labels) + 1, np.int64), 0
    path = _with_ending(job.target, "_overlay.mp4")
    with write_video(path, "mp4v", video) if with_overlay else nullcontext() as write:
        for frames, frame in enumerate(video, 1):
            label_indices = _answer(model.predict(frame), space, back_off)
            write_ids(job.target / f"{frames - 1:06d}.png", label_indices, space)
            counts += count_labels(label_indices, space)
            if write:
                write(overlay(frame, colorise(label_indices, space)))
    content = {"model": model.digest} | summary(counts, space, video.size, frames)
    write_json(_with_ending(job.target, ".json"), content)


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
        raise HeterosegError(
            f"{path}: was predicted in label space {space_name!r}, now {space.name!r} is asked for; "
            "choose another --out"
        )
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
    jobs = list_jobs(inputs, out)
    for job in jobs:
        is_video = job.source.suffix.lower() in VIDEOS
        painted = _with_ending(job.target, "_overlay.mp4" if is_video else "_overlay.jpg")
        ids = job.target if is_video else _with_ending(job.target, ".png")
        done = (
            _done_in(_with_ending(job.target, ".json"), model, space)
            and ids.exists()
            and (painted.exists() or not with_overlay)
        )
        progress(job, done)
        if not done:
            (_one_video if is_video else _one_image)(model, job, space, with_overlay, back_off)
    return len(jobs)
