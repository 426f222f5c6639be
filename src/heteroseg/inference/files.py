"""Predictions for files, folders and videos, written so that a stopped run can go on where it was."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from heteroseg.datasets import read_image
from heteroseg.datasets.encoding import write_pixels
from heteroseg.datasets.image_files import open_file
from heteroseg.datasets.paths import IMAGE_SUFFIXES, NAMED, grouped, raise_faults, walk
from heteroseg.errors import HeterosegError, InputError, require_between
from heteroseg.files import read_json, write_json
from heteroseg.inference.pictures import colorise, entries, legend, overlay
from heteroseg.inference.video import Places, Video, write_video
from heteroseg.labels.space import LabelSpace, node_space
from heteroseg.labels.taxonomy import Taxonomy
from heteroseg.model.model import Model
from heteroseg.model.views import views_of, views_text
from heteroseg.writing import is_free, require_absent, require_apart, require_folder, write_bytes

VIDEOS = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"}
LONGEST = 255  # bytes of a name that disks take
RULE = 2  # of heteroseg; goes up when a network comes to answer otherwise for the same file. 2: photographs are upright
CHANGES = {
    "label_space": "in label space {before!r}, now {now!r} is asked for",
    "model": "by a model with other weights",
    "rule": "by another version of heteroseg, which answers otherwise",
    "labels_digest": "before label space {label_space!r} or its taxonomy was changed",
    "decision": "by the decision {before!r}, now it is {now!r}",
    "source": "from {before}, now {now} is asked for",
    "input": "before this input was changed",
    "as_stored": "with images as stored: {before}, now {now}",
    "tta": "with other views, --tta",
}
"""How to say that what decides an answer was another one before."""


@dataclass(frozen=True)
class Job:
    """One input file and the output path that it leads to, without an ending."""

    source: Path
    target: Path


def jobs_of(path: Path, out: Path) -> list[Job]:
    """The images and videos that a name stands for."""
    if path.is_dir():
        whole = _real(out)
        if _real(path) == whole:
            raise HeterosegError(f"{out}: is the folder of the inputs; choose another --out, so that none is replaced")
        inputs = sorted(p for p in walk(path, IMAGE_SUFFIXES | VIDEOS) if whole not in _real(p).parents)
        if not inputs:
            raise HeterosegError(f"{path}: expected images or videos in this folder, found none")
        return [Job(p, out / p.relative_to(path).with_suffix("")) for p in inputs]
    if not path.exists():
        raise HeterosegError(f"{path}: expected an image, a video or a folder, found no such file")
    if path.suffix.lower() not in IMAGE_SUFFIXES | VIDEOS:
        raise HeterosegError(f"{path}: expected an image or a video, found the ending {path.suffix or '(none)'!r}")
    return [Job(path, out / path.stem)]


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # `resolve` fails where a link leads to itself


def passed_over(folder: Path) -> str | None:
    """A line about the files of a folder that are neither images nor videos, where it has any that are not hidden."""
    endings = Counter(path.suffix.lower() or "no ending" for path in walk(folder, None))
    others = {e: n for e, n in sorted(endings.items(), key=lambda e: (-e[1], e[0])) if e not in IMAGE_SUFFIXES | VIDEOS}
    named = ", ".join(f"{ending}: {n}" for ending, n in list(others.items())[:NAMED])
    told = f"{folder}: {sum(others.values())} files are neither images nor videos and were passed over"
    return f"{told} ({named}{', ...' * (len(others) > NAMED)})" if others else None


def list_jobs(inputs: Sequence[str | Path], out: Path) -> list[Job]:
    """Files and folders to jobs. Folders keep their structure below `out`, which is not searched if it lies in them.

    Two inputs with one output, and an output that would replace an input, are errors.
    """
    require_folder(out, kind="a folder for the predictions")
    jobs = list(dict.fromkeys(job for name in inputs for job in jobs_of(Path(name), out)))
    _require_apart(jobs, out)
    return jobs


def _of_one_output(source: Path, other: Path, output: Path) -> HeterosegError:
    both = f"{source} and {other} would both be written to {output}"
    return HeterosegError(f"{both}; give them in two runs with another --out")


def _require_apart(jobs: Sequence[Job], out: Path) -> None:
    """Raise HeterosegError where an output is that of another job, lies in one (the frames of a video), or an input."""
    taken: dict[Path, Path] = {}
    for job in jobs:
        for output in _outputs(job, True).all():
            if (other := taken.setdefault(output, job.source)) != job.source:
                raise _of_one_output(job.source, other, output)
    for output, source in taken.items():
        if above := taken.keys() & set(output.parents):
            raise _of_one_output(source, taken[min(above)], min(above))
    require_apart(out, [output.relative_to(out).as_posix() for output in taken])
    outputs = {_real(output) for output in taken}
    for job in jobs:
        source = _real(job.source)
        if source in outputs or outputs & set(source.parents):
            raise HeterosegError(f"{job.source}: a prediction would replace this input; choose another --out")


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


def encode_ids(label_indices: np.ndarray, space: LabelSpace) -> bytes:
    """Native ids of a label map as a grey PNG: 8 bits where all ids of the space fit, else 16."""
    return cv2.imencode(".png", native_ids(label_indices, space))[1].tobytes()


def picture(image: np.ndarray, label_indices: np.ndarray, space: LabelSpace) -> np.ndarray:
    """(H + legend, W, 3) uint8: the image under its label colours, and below it the names of what was found."""
    painted = overlay(image, colorise(label_indices, space))
    return np.concatenate([painted, legend(painted.shape[1], entries(label_indices, space))])


def _with_ending(target: Path, ending: str) -> Path:
    return target.with_name(target.name + ending)


def back_off_space(tree: Taxonomy, min_probability: float) -> LabelSpace:
    """The label space of all nodes; its name holds `min_probability`, so that a folder never mixes two of them."""
    require_between("back_off", min_probability, 0, 1)
    return node_space(tree, f"nodes of probability {min_probability!r}")


def decided_by(model: Model, space: LabelSpace, as_stored: bool = False) -> dict[str, Any]:
    """What decides the answers, to be kept beside them: where it has changed, they are those of another."""
    files = space.file.model_dump_json(exclude={"description", "taxonomy"}), model.taxonomy.to_file().model_dump_json()
    digest = hashlib.sha256("\n".join(files).encode()).hexdigest()[:16]
    told = {"model": model.digest, "label_space": space.name, "labels_digest": digest}
    more = {"as_stored": as_stored, "tta": views_text(views_of(model.tta))}
    return told | {"decision": model.decision, "rule": RULE} | {key: value for key, value in more.items() if value}


def require_same(where: Path | str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise HeterosegError where answers that are there were decided otherwise than those that are asked for."""
    for key, told in CHANGES.items():
        if before.get(key) != now.get(key):
            told = told.format(before=before.get(key), now=now.get(key), label_space=now["label_space"])
            raise HeterosegError(f"{where}: was predicted {told}; choose another --out, or remove the old answers")


@dataclass(frozen=True)
class _Outputs:
    """Where the answer to a job goes: label maps, a picture where one is wanted, and the JSON that tells of them.

    The JSON is there before the others, so that what has none is somebody else's; that of a video ends with its `size`.
    No file that is there is replaced: what is there is whole, and perhaps somebody has worked on it.
    """

    ids: Path
    painted: Path | None
    told: Path
    of_video: bool

    def done(self, job: Job, decided: dict[str, Any]) -> bool:
        """Whether all is there. Files of somebody else, and what was decided otherwise, raise HeterosegError."""
        if any(len(os.fsencode(path.name)) > LONGEST for path in self.all()):
            raise InputError(f"{job.source}: expected a name that leaves room for the endings of answers, rename it")
        if is_free(self.told):
            for path in self.all():
                require_absent(path, f"no {self.told.name} says that it was predicted, so choose another --out")
            return False
        before = None
        with suppress(HeterosegError):
            before = read_json(self.told)
        if not isinstance(before, dict) or "model" not in before:
            told = "expected a file of an earlier prediction"
            raise HeterosegError(f"{self.told}: {told}, found another; choose another --out")
        now = _told_of(job.source)
        if "source" not in before or before.get("input") == now["input"]:
            now["source"] = before.get("source")  # it may have another place
        require_same(self.told, before, decided | now)
        if "size" not in before or any(is_free(path) for path in self.all()):
            return False
        if self.of_video:
            missing = set(before.get("missing", ()))
            if any(is_free(self.frame(i)) for i in {*range(before.get("frames", 0) + len(missing))} - missing):
                return False
        if "fault" in before:
            raise InputError(f"{job.source}: {before['fault']}")
        return True

    def all(self) -> list[Path]:
        return [self.ids, self.told, *([self.painted] if self.painted else [])]

    def frame(self, i: int) -> Path:
        return self.ids / f"{i:06d}.png"

    def tell(self, decided: dict[str, Any], found: dict[str, Any]) -> None:
        if "size" not in read_json(self.told, {}):
            write_json(self.told, decided | found)


def _told_of(source: Path) -> dict[str, Any]:
    """What tells an input from others."""
    with open_file(source) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return {"source": str(source.absolute()), "input": digest}


@contextmanager
def _set_aside(faults: list[str]) -> Iterator[None]:
    """A fault of one input does not stop the others."""
    try:
        yield
    except InputError as error:
        faults += error.faults


def _outputs(job: Job, with_overlay: bool) -> _Outputs:
    is_video = job.source.suffix.lower() in VIDEOS
    ids = job.target if is_video else _with_ending(job.target, ".png")
    painted = _with_ending(job.target, "_overlay.webm" if is_video else "_overlay.jpg") if with_overlay else None
    return _Outputs(ids, painted, _with_ending(job.target, ".json"), is_video)


Answer = Callable[[np.ndarray], np.ndarray]  # an image to indices of labels
Tell = Callable[[dict[str, Any]], None]  # writes the JSON


def _label_image(job: Job, out: _Outputs, answer: Answer, space: LabelSpace, tell: Tell, upright: bool = True) -> None:
    image = read_image(job.source, upright)
    label_indices = answer(image)
    tell(summary(count_labels(label_indices, space), space, label_indices.shape))
    if is_free(out.ids):
        write_bytes(out.ids, encode_ids(label_indices, space))
    if out.painted and is_free(out.painted):
        pixels = np.ascontiguousarray(picture(image, label_indices, space)[..., ::-1])
        write_pixels(out.painted, pixels, (cv2.IMWRITE_JPEG_QUALITY, 92))


def _label_video(job: Job, out: _Outputs, answer: Answer, space: LabelSpace, tell: Tell) -> None:
    """Frames to IDS/000000.png ..., and perhaps under their colours to a video at the speed of the source."""
    video, counts = Video(job.source), np.zeros(len(space.labels) + 1, np.int64)
    places = Places(video, job.source)
    painted = out.painted if out.painted and is_free(out.painted) else None
    with write_video(painted, video.size, video.rate) if painted else nullcontext() as write:
        tell({})
        for frame in video:
            label_indices = answer(frame)
            if is_free(frame_file := out.frame(places.next())):
                write_bytes(frame_file, encode_ids(label_indices, space))
            counts += count_labels(label_indices, space)
            if write:
                write(overlay(frame, colorise(label_indices, space)))
    found, fault = summary(counts, space, video.size, len(places.came)), places.fault()
    tell(found | ({"missing": places.missing, "fault": fault} if fault else {}))
    if fault:
        raise InputError(f"{job.source}: {fault}")


def predict_files(
    model: Model,
    inputs: Sequence[str | Path],
    out: Path,
    space: LabelSpace,
    with_overlay: bool = False,
    progress: Callable[[Job, bool], None] = lambda job, done_before: None,
    back_off: float | None = None,
    as_stored: bool = False,
) -> int:
    """Predict every input into `out`: NAME.png (native ids of `space`), NAME.json, with an overlay NAME_overlay.jpg.

    With `back_off`, the least probability of a decision, the answers are nodes, and `space` is what `back_off_space`
    gives. With `as_stored` images are not turned as their EXIF orientation says.

    What is there from an earlier run is kept and not worked out again; where the input, the model, the label space or
    an option has changed since, HeterosegError is raised before anything is written. An input that cannot be read does
    not stop the others, and is told by a HeterosegError at the end. Returns the number of inputs.
    """

    def answer(image: np.ndarray) -> np.ndarray:
        try:
            prediction = model.predict(image)
        except HeterosegError as error:  # a size that an exported network does not take
            raise InputError(*error.faults) from None
        return prediction.label_indices(space) if back_off is None else prediction.nodes(back_off)

    decided = decided_by(model, space, as_stored)
    jobs, work, faults = list_jobs(inputs, out), [], list[str]()
    for job in jobs:
        outputs = _outputs(job, with_overlay)
        with _set_aside(faults):
            work.append((job, outputs, outputs.done(job, decided)))
    for job, outputs, done in work:
        progress(job, done)
        if not done:
            label = _label_video if outputs.of_video else partial(_label_image, upright=not as_stored)
            with _set_aside(faults):
                label(job, outputs, answer, space, partial(outputs.tell, decided | _told_of(job.source)))
    if faults and len(jobs) > 1:
        told = f"{len(faults)} of {len(jobs)} inputs could not be read whole; the rest is done"
        faults = [*grouped(str(out), faults), told]
    raise_faults(faults)
    return len(jobs)
