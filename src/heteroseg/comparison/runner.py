"""Train and score one experiment in several ways (see `joining`) and seeds, and put them into one table.

OUT holds `WAY/experiment.yaml` with its tree and label spaces (any of them can be trained by hand), a RUN for each seed
under `WAY/seed-N`, its scores beside it, and the table as JSON, CSV, Markdown and a plot. What is done is kept.
"""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from heteroseg.comparison.joining import WAYS, Base, Part, parts_of, require_way
from heteroseg.comparison.table import TABLES, rarest_third, read_scored, write_table
from heteroseg.errors import HeterosegError, warn
from heteroseg.evaluation.pixels import sample_pixels
from heteroseg.evaluation.scores import evaluate_source, summarise, tree_cost
from heteroseg.evaluation.temperatures import errors_by_depth
from heteroseg.experiment.config import FORMER, Experiment, as_begun, expanded
from heteroseg.experiment.sources import open_sources
from heteroseg.files import read_json, read_yaml, write_json, write_yaml
from heteroseg.labels.space import LabelSpace
from heteroseg.model.model import load
from heteroseg.model.run_folder import read_begun, training_seconds
from heteroseg.provenance import facts
from heteroseg.supervision.coverage import look_over
from heteroseg.training.batches import images_per_dataset
from heteroseg.writing import alone, put_aside, require_empty

STOPPED = 128 + signal.SIGINT  # exit code


def open_base(experiment: Experiment, folder: Path, allow_overlap: bool = False) -> Base:
    """What the ways start from; also finds missing data before anything is trained, and warns of what looks wrong."""
    sources = open_sources(experiment, folder)
    for note in look_over(sources, allow_overlap):
        warn(note)
    spaces = {s.name: s.space for s in sources}
    counts = dict(zip(spaces, images_per_dataset(sources, experiment.train.batch), strict=True))
    root = os.path.realpath(folder / expanded(experiment.data_root))
    return Base(experiment.model_copy(update={"data_root": root}), sources[0].space.taxonomy, spaces, counts)


def part_files(part: Part) -> dict[str, BaseModel]:
    """The part's tree, label spaces and experiment by file name, as `heteroseg train` takes them."""
    spaces = {f"label_spaces/{dataset}.yaml": space for dataset, space in part.spaces.items()}
    return {"taxonomy.yaml": part.tree, **spaces, "experiment.yaml": part.experiment}


def _holds(path: Path, due: BaseModel) -> bool:
    """Whether a file of a part says `due`; an experiment that leaves keys out was written with the former defaults."""
    document = read_yaml(path)
    if isinstance(due, Experiment) and isinstance(document.data, dict):
        former = {key: values | document.data.get(key, {}) for key, values in FORMER.items()}
        document = replace(document, data=document.data | former)
    try:
        return document.parse(type(due)) == due
    except HeterosegError:
        return False


def write_part(part: Part, folder: Path) -> None:
    """Write the experiment of a part with the tree and the label spaces that it names."""
    for name, content in part_files(part).items():
        write_yaml(folder / name, content.model_dump(mode="json") if content is part.experiment else content)


def require_same(part: Part, folder: Path) -> None:
    """HeterosegError if `folder` holds this part with another loss; ways that a change does not touch go on."""
    for name, new in part_files(part).items():
        path = folder / name
        if path.exists() and not _holds(path, new):
            told = "this way was begun with other settings than it would have now"
            raise HeterosegError(f"{path}: {told}; choose another --out, or remove {folder} to train it anew")


@dataclass(frozen=True)
class Job:
    """One network to train and score: a part of a way with one seed. Its RUN lies in the folder of the part."""

    part: Part
    run: Path
    seed: int
    spaces: dict[str, LabelSpace]

    @property
    def scored(self) -> Path:
        return self.run.with_suffix(".json")

    def __str__(self) -> str:
        return f"{self.part.name}, seed {self.seed}"


def _train(job: Job, output: Path | None) -> None:
    """Train in a process of its own, from the start or from where it was stopped; scoring is left to us.

    What the process says goes to the file `output`, or to the terminal.
    """
    command = [sys.executable, "-m", "heteroseg", "train", str(job.run.parent / "experiment.yaml")]
    command += ["--out", str(job.run), *(["--resume"] if job.run.exists() else [])]
    command += ["--no-warnings"]  # those of the base experiment are told once
    datasets = {d: c.model_dump(mode="json") | {"val": None} for d, c in job.part.experiment.datasets.items()}
    command += [f"train.seed={job.seed}", f"datasets={json.dumps(datasets, ensure_ascii=False)}"]
    with output.open("ab") if output else nullcontext() as file:
        code = subprocess.run(command, stdout=file, stderr=file).returncode
    if code in (STOPPED, 128 + signal.SIGTERM):
        raise KeyboardInterrupt
    if code:
        told = f"training ended with exit code {code}, its message stands {f'in {output}' if output else 'above'}"
        raise HeterosegError(f"{job.run}: {told}; mend it and repeat")


def _score(job: Job) -> dict[str, Any]:
    """Scores of a trained part on every dataset that it knows, in the base experiment's label spaces."""
    model = load(job.run / "last", "auto", job.part.experiment.model.backbone)
    datasets = {}
    for source in open_sources(job.part.experiment, job.run.parent, splits=("val",)):
        if source.val:
            space = job.spaces[source.name]
            tally = evaluate_source(model, source, truths=space)
            entry = summarise(tally, space)
            free = entry["unlabelled"]
            claimed = free["claimed"] / free["pixels"] if free["pixels"] else None
            cost, ece = tree_cost(tally.confusion, space), {}
            if cost is not None:
                ece = errors_by_depth(sample_pixels(model, source, None, truths=space), space)
            more = {"rare_miou": rarest_third(entry), "claimed": claimed, "tree_cost": cost, "ece": ece}
            more["unseen"] = source.config.train is None
            datasets[source.name] = entry | more
    return {
        "parameters": sum(p.numel() for p in model.torch_network.parameters()),
        "train_seconds": training_seconds(job.run),
        "facts": facts(),
        "datasets": datasets,
    }


def do_job(job: Job, output: Path | None = None) -> None:
    """Train where that is not done yet, and write the scores."""
    if training_seconds(job.run) is None:  # which are written at the very end
        _train(job, output)
    write_json(job.scored, _score(job))


def _do_job_or_end(job: Job, output: Path) -> None:
    """For a process of a pool, which would go on with the next job after it was stopped."""
    try:
        do_job(job, output)
    except KeyboardInterrupt:
        os._exit(STOPPED)


def _use_threads(threads: int) -> None:
    """For this process, and for the trainings that it starts; SIGTERM stops both."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)


def do_jobs(todo: Sequence[Job], processes: int, log: Callable[[str], None]) -> Iterator[Job]:
    """Do the jobs, several at once if `processes` is more than 1, and yield each when it is done.

    Several on a machine share its cores evenly; on two cores that took three quarters of the time of one after the
    other (docs/log.md). The trainings then write to `seed-N.log` instead of to the terminal.
    """
    if processes == 1:
        for job in todo:
            log(str(job))
            do_job(job)
            yield job
        return
    threads, spawn = max(1, (os.cpu_count() or 1) // processes), multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, spawn, _use_threads, (threads,)) as pool:
        futures = {pool.submit(_do_job_or_end, job, job.run.with_suffix(".log")): job for job in todo}
        try:
            for future in as_completed(futures):
                future.result()
                log(f"{futures[future]}: done")
                yield futures[future]
        except (KeyboardInterrupt, BrokenProcessPool) as error:
            for process in multiprocessing.active_children():
                process.terminate()
            if isinstance(error, KeyboardInterrupt):
                raise
            told = "a process that trains was killed from outside, as systems do where memory runs out"
            raise HeterosegError(f"{told}; what is done is kept: repeat with a lower --jobs") from None
        except BaseException:
            pool.shutdown(cancel_futures=True)  # what runs is finished and kept
            raise


def _require_same_comparison(out: Path, experiment: Experiment) -> Experiment:
    """HeterosegError if `out` holds something else than a comparison of this experiment, whatever its loss.

    Returns the experiment, with the former defaults of a comparison that began with them.
    """
    try:
        begun = read_begun(out)
    except HeterosegError as error:  # each way holds an experiment of its own, which is compared too
        warn(f"{error.faults[0].rpartition(';')[0]}; it is written anew")
        return experiment
    if begun is None:
        if not list(out.glob("*/**/experiment.yaml")):
            require_empty(out, "it holds no comparison; choose another --out")
        return experiment
    experiment = as_begun(experiment, begun)
    differ = [k for k in Experiment.model_fields if k != "loss" and getattr(begun, k) != getattr(experiment, k)]
    if differ:  # all but the loss is equal for all ways
        told = f"holds a comparison of another experiment ({', '.join(differ)} differ)"
        raise HeterosegError(f"{out}: {told}; choose another --out")
    return experiment


def _folders(base: Base, out: Path, asked: Sequence[str]) -> dict[str, list[Path]]:
    """The folders of every way of the table: those asked for, and what else `out` holds with the settings of now."""
    ways: dict[str, dict[str, Part]] = {}
    for way in dict.fromkeys([*asked, *WAYS]):
        if way not in asked and not (out / way).is_dir():
            continue
        try:
            parts = parts_of(base, way)
            for place, part in parts.items():
                require_same(part, out / place)
        except HeterosegError as error:
            warn(f"{way} is not in the table: {error.faults[0]}")
            continue
        ways |= {way: parts, **{part.name: {place: part} for place, part in parts.items()}}
    return {way: [out / place for place in parts] for way, parts in ways.items()}


def compare(
    experiment: Experiment,
    folder: Path,
    out: Path,
    ways: Sequence[str],
    seeds: Sequence[int],
    log: Callable[[str], None],
    processes: int = 1,
    allow_overlap: bool = False,
) -> dict[str, Any]:
    """Train and score all ways with all seeds; every seed of all ways is begun before the next.

    Returns the table of all that `out` holds, so that ways may have different numbers of seeds.
    """
    ways = list(dict.fromkeys(ways))
    for way in ways:
        require_way(way)
    if begin := experiment.train.begin:
        told = f"expected ways that all begin anew, found {begin!r:.80}, which suits some of their trees"
        raise HeterosegError(f"train.begin: {told}; leave it out")
    base = open_base(experiment, folder, allow_overlap)
    with alone(out):
        base = replace(base, experiment=_require_same_comparison(out, base.experiment))
        return _compare(base, out, ways, seeds, log, processes)


def _compare(
    base: Base, out: Path, ways: Sequence[str], seeds: Sequence[int], log: Callable[[str], None], processes: int
) -> dict[str, Any]:
    parts = {out / place: part for way in ways for place, part in parts_of(base, way).items()}
    try:
        read_json(out / "table.json", {})
    except HeterosegError:
        (out / "table.json").unlink()  # damaged, and made again
    for name in (*TABLES, "report.html"):
        put_aside(out / name)
    for place, part in parts.items():
        require_same(part, place)
    write_json(out / "experiment.json", base.experiment.model_dump(mode="json"))
    for place, part in parts.items():
        write_part(part, place)
    shown = _folders(base, out, ways)
    jobs = [Job(part, place / f"seed-{seed}", seed, base.spaces) for seed in seeds for place, part in parts.items()]
    try:
        for _ in do_jobs([job for job in jobs if read_scored(job.scored) is None], processes, log):
            write_table(out, base.experiment, shown)
        return write_table(out, base.experiment, shown)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; {out} keeps what is done, and the same command goes on from there") from None
