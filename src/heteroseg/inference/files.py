"""Predictions for files, folders and videos, written so that a stopped run can go on where it was."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from heteroseg.datasets import read_image
from heteroseg.datasets.paths import IMAGE_SUFFIXES, NAMED, grouped, raise_faults, walk
from heteroseg.errors import HeterosegError, InputError, missing_package, require_between
from heteroseg.labels.space import LabelSpace, node_space
from heteroseg.labels.taxonomy import Taxonomy
from heteroseg.model.answer_files import (
    Outputs,
    count_labels,
    decided_by,
    encode_ids,
    outputs_of,
    summary,
    told_of,
    write_answer,
)
from heteroseg.model.model import Model
from heteroseg.model.pictures import colorise, overlay
from heteroseg.model.promise import least_of
from heteroseg.writing import is_free, require_apart, require_folder, write_bytes

VIDEOS = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"}
T = TypeVar("T")


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


def back_off_space(tree: Taxonomy, min_probability: float) -> LabelSpace:
    """The label space of all nodes; its name holds `min_probability`, so that a folder never mixes two of them."""
    require_between("back_off", min_probability, 0, 1)
    return node_space(tree, f"nodes of probability {min_probability!r}")


def promised_space(model: Model, precision: float) -> LabelSpace:
    """The same for a promised precision, with all that decides."""
    least = ", ".join(map(str, least_of(model, precision)))
    return node_space(model.taxonomy, f"nodes of precision {precision!r}, probabilities {least}")


def _outputs(job: Job, with_overlay: bool) -> Outputs:
    return outputs_of(job.target, with_overlay, job.source.suffix.lower() in VIDEOS)


@contextmanager
def _set_aside(faults: list[str]) -> Iterator[None]:
    """A fault of one input does not stop the others."""
    try:
        yield
    except InputError as error:
        faults += error.faults


Answer = Callable[[np.ndarray], np.ndarray]  # an image to indices of labels
Later = Callable[[Callable[[], object]], None]


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items. A thread makes the next one while one is used."""
    with ThreadPoolExecutor(1) as thread:
        end = object()
        coming: Future[Any] = thread.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, items, end)
            yield item


@contextmanager
def behind() -> Iterator[Later]:
    """A function that calls in a thread what it is given, one after the other, at most one of them unfinished when it
    returns. Their errors are raised by the next call, or at the end."""
    with ThreadPoolExecutor(1) as thread:
        last: Future[object] = thread.submit(int)

        def call(work: Callable[[], object]) -> None:
            nonlocal last
            last.result()
            last = thread.submit(work)

        yield call
        last.result()


def _label_video(job: Job, out: Outputs, answer: Answer, space: LabelSpace, decided: dict[str, Any]) -> None:
    """Frames to IDS/000000.png ..., and perhaps under their colours to a video at the speed of the source."""
    try:
        from heteroseg.inference.video import Places, Video, write_video
    except ImportError as error:
        raise InputError(f"{job.source}: {missing_package('a video', error, 'video')}") from None
    video, counts = Video(job.source), np.zeros(len(space.labels) + 1, np.int64)
    places = Places(video, job.source)
    painted = out.painted if out.painted and is_free(out.painted) else None

    def write(file: Path, frame: np.ndarray, label_indices: np.ndarray) -> None:
        if is_free(file):
            write_bytes(file, encode_ids(label_indices, space))
        if paint:
            paint(overlay(frame, colorise(label_indices, space)))

    with write_video(painted, video.size, video.rate) if painted else nullcontext() as paint, behind() as later:
        out.tell(decided, {})
        shown = tqdm(video, job.source.name, video.total or None, unit="frame", disable=None)  # on a terminal
        for frame, number in ahead((frame, places.next()) for frame in shown):
            label_indices = answer(frame)
            counts += count_labels(label_indices, space)
            later(partial(write, out.frame(number), frame, label_indices))
    found, fault = summary(counts, space, video.size, len(places.came)), places.fault()
    out.tell(decided, found | ({"missing": places.missing, "fault": fault} if fault else {}))
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
    precision: float | None = None,
) -> int:
    """Predict every input into `out`: NAME.png (native ids of `space`), NAME.json, with an overlay NAME_overlay.jpg.

    With `back_off`, the least probability of a decision, or `precision`, the answers are nodes, and `space` is what
    `back_off_space` or `promised_space` gives. With `as_stored` images are not turned as their EXIF orientation says.

    What is there from an earlier run is kept and not worked out again; where the input, the model, the label space or
    an option has changed since, HeterosegError is raised before anything is written. An input that cannot be read does
    not stop the others, and is told by a HeterosegError at the end. Returns the number of inputs.
    """

    def answer(image: np.ndarray) -> np.ndarray:
        try:
            prediction = model.predict(image)
        except HeterosegError as error:  # a size that an exported network does not take
            raise InputError(*error.faults) from None
        plain = back_off is None and precision is None
        return prediction.label_indices(space) if plain else prediction.nodes(back_off, precision)

    def read(part: tuple[Job, Outputs, bool]) -> tuple[Job, Outputs, dict[str, Any], np.ndarray | None, list[str]]:
        (job, outputs, done), told, image, wrong = part, dict[str, Any](), None, list[str]()
        with _set_aside(wrong):
            told = {} if done else told_of(job.source)
            image = read_image(job.source, not as_stored) if told and not outputs.of_video else None
        return job, outputs, told, image, wrong

    decided = decided_by(model, space, as_stored)
    jobs, work, faults = list_jobs(inputs, out), [], list[str]()
    for job in jobs:
        outputs = _outputs(job, with_overlay)
        with _set_aside(faults):
            work.append((job, outputs, outputs.done(job.source, decided, partial(told_of, job.source))))
    with behind() as later:
        for job, outputs, told, image, wrong in ahead(map(read, work)):
            progress(job, not told and not wrong)
            faults += wrong
            with _set_aside(faults):
                if image is not None:
                    later(partial(write_answer, outputs, image, answer(image), space, decided | told))
                elif told and outputs.of_video:
                    _label_video(job, outputs, answer, space, decided | told)
    if faults and len(jobs) > 1:
        note = f"{len(faults)} of {len(jobs)} inputs could not be read whole; the rest is done"
        faults = [*grouped(str(out), faults), note]
    raise_faults(faults)
    return len(jobs)
