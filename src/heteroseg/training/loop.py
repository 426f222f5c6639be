"""The training loop, on lightning's Fabric: devices, processes, precision are its business, the rest ours."""

import sys
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader
from tqdm import tqdm

from heteroseg.errors import HeterosegError, counted, listed, text_of, warn
from heteroseg.experiment.config import Experiment
from heteroseg.experiment.sources import write_skipped
from heteroseg.files import write_json, write_text
from heteroseg.model.beginning import tell_origins
from heteroseg.model.card import score_of
from heteroseg.model.growing import told_growth
from heteroseg.provenance import facts
from heteroseg.supervision.coverage import AFTERWARDS, look_over
from heteroseg.training.batches import batches, training_loader
from heteroseg.training.log import Log, require_logger
from heteroseg.training.optimiser import learning_rate
from heteroseg.training.processes import launch
from heteroseg.training.run import Run
from heteroseg.training.state import (
    clear,
    hold,
    prepare_folder,
)
from heteroseg.training.stops import told
from heteroseg.writing import put_aside


def _take_steps(run: Run, loader: DataLoader, log: Log | None) -> None:
    """Train on every batch of the loader; save and evaluate in between, as the experiment says."""
    config = run.experiment.train
    run.training_mode()
    silent = not run.fabric.is_global_zero
    bar = tqdm(batches(loader), total=config.steps, initial=run.step, unit="step", disable=silent, dynamic_ncols=True)
    begin = time.perf_counter()
    with bar:
        for batch in () if run.done else bar:
            row = run.train_step(batch)
            run.seconds += time.perf_counter() - begin
            if row and log:
                log.write(row)
                bar.set_postfix(loss=f"{row['loss']:.3f}")
            _take_stock(run, log)
            if run.done:
                break
            begin = time.perf_counter()


def _take_stock(run: Run, log: Log | None) -> None:
    """Evaluate and save, where this step is one for that."""
    config = run.experiment.train
    if run.scored:
        run.evaluate()
        run.training_mode()
        if run.result and log:
            mious = {f"{name}/miou": d["miou"] or 0.0 for name, d in run.result["datasets"].items()}
            log.write({"step": run.step} | mious | {config.best: score_of(run.result, config.best)})
            tqdm.write(_standing(run), sys.stderr)
    if run.scored or run.step % config.save_every == 0:
        run.save()


def _outline(run: Run) -> str:
    """What is trained, on what, and where it goes, for the terminal."""
    config, fabric = run.experiment.train, run.fabric
    size = f"{sum(p.numel() for p in run.network.parameters()) / 1e6:.1f} million parameters"
    if run.experiment.model.lora or run.experiment.model.freeze:
        size += f", {sum(p.numel() for p in run.network.parameters() if p.requires_grad) / 1e6:.1f} of them trained"
    on = f"{fabric.device}, {counted(fabric.world_size, 'process')}"
    dropped = run.network.module.dropped
    size += f" (without {listed(dropped, 3)})" if dropped else ""
    images = ", ".join(f"{s.name} {len(s.train)} and {len(s.val)}" for s in run.sources)
    more = ""
    if run.raised_from < config.steps:
        rate = learning_rate(run.experiment.optimiser, run.step, config.steps)
        more = f"\n{run.raised_from} steps became {config.steps}, so the learning rate is {rate:.2f} of its highest now"
    if config.grow:
        more += f"\n{told_growth(run.shared)}"
    return (
        f"training {run.experiment.name} on {on}: {size}, step {run.step} of {config.steps}\n"
        f"images to train on and to evaluate on: {images}\n"
        f"saved in {run.out} every {config.save_every} steps; Ctrl-C stops, --resume goes on{more}"
    )


def _standing(run: Run) -> str:
    """What an evaluation says about the best network so far."""
    config = run.experiment.train
    told = f"best/ is of step {run.best_step} ({config.best} {100 * run.best:.2f} %)"
    if run.step != run.best_step and run.result:
        told = f"{100 * score_of(run.result, config.best):.2f} % at step {run.step}; {told}"
    if run.done and run.step < config.steps:
        told += f"; training ends, train.patience is {config.patience}"
    return told


def _begin(run: Run, folder: Path, notes: list[str], warn: Callable[[str], None]) -> None:
    """Write what a run begins with, and tell the warnings. What a killed run left unfinished goes."""
    clear(run.out)
    write_text(run.out / "experiment.json", run.experiment.model_dump_json(indent=2) + "\n")
    write_json(run.out / "facts.json", facts(folder))
    if not run.done:  # of a run that had ended before, and is to have more steps
        (run.out / "evaluation.json").unlink(missing_ok=True)
    if run.origins:
        tell_origins(str(run.experiment.train.begin), run.origins, run.out)
    if any(source.skipped for source in run.sources):
        put_aside(run.out / "skipped.txt")
        write_skipped(run.sources, run.out / "skipped.txt")
    for note in notes:
        warn(note)


def _end(run: Run, folder: Path, notes: list[str]) -> dict[str, Any] | None:
    """Write what a run ends with, and return the scores. Beside them stand the warnings after a look at more masks, or
    the notes from before training where one of them is faulty."""
    if result := run.result:
        result = result | {"training_warnings": notes}
        with suppress(HeterosegError):
            result["training_warnings"] = look_over(run.sources, True, AFTERWARDS)
        write_json(run.out / "evaluation.json", result)
    ended = {"training seconds": f"{run.seconds:.0f}", "last evaluation": _standing(run)}
    write_json(run.out / "facts.json", facts(folder) | ended)
    return result


def train(
    experiment: Experiment,
    folder: Path,
    out: Path,
    resume: bool = False,
    allow_overlap: bool = False,
    warn: Callable[[str], None] = warn,
) -> dict[str, Any] | None:
    """Train a network and leave RUN in `out`: best/, last/, log.csv, evaluation/*.json, state.pt with the state before
    it, what `train.logger` writes, and skipped.txt where the option skip_faulty left annotation out.

    `folder` is where the experiment's relative paths start. `resume` goes on with the run in `out`, wherever it was
    stopped, and ends in the same weights, scores and log as one that never was. `warn` gets what
    looks wrong in the data, a sentence each, on stderr by default. Returns the last evaluation (of `last/`), None where
    no dataset has a val split or in all processes but the first. A faulty file, a dataset without labels, val images
    that are train images too (unless `allow_overlap`), a setting that cannot work and a loss that is no number raise
    HeterosegError.

    Examples:
        >>> import tempfile
        >>> from heteroseg import Experiment, load, train
        >>> from heteroseg.scenes import generate
        >>> signs = {"root": "gtsdb", "reader": "gtsdb", "label_space": "gtsdb", "val": None}
        >>> experiment = Experiment(
        ...     name="signs",
        ...     taxonomy="streets-108",
        ...     datasets={"signs": signs},
        ...     model={"pretrained": False, "width": 16},
        ...     train={"steps": 2, "batch": 2, "crop": (64, 64), "workers": 0, "accelerator": "cpu"},
        ... )
        >>> with tempfile.TemporaryDirectory() as root:
        ...     generate(Path(root), train=2, val=0, size=(64, 96))
        ...     train(experiment, folder=Path(root), out=Path(root, "run"))
        ...     load(Path(root, "run")).name
        'signs'
    """
    if not isinstance(experiment, Experiment):
        raise HeterosegError(
            f"train: expected an Experiment, such as load_experiment(FILE)[0], found {experiment!r:.80}"
        )
    folder, out = Path(text_of(folder)), Path(text_of(out))
    require_logger(experiment.train.logger)
    experiment = prepare_folder(experiment, out, resume)  # a fault is told once, before other processes are started
    runs: list[Run] = []
    with told(out, lambda: (runs[0].step, runs[0].saved) if runs else (0, None)):
        fabric = launch(experiment.train)
        runs.append(Run(experiment, folder, out, fabric))
        with hold(experiment, out, resume) if fabric.is_global_zero else nullcontext():
            return _train(runs[0], folder, resume, allow_overlap, warn)


def _train(
    run: Run, folder: Path, resume: bool, allow_overlap: bool, warn: Callable[[str], None]
) -> dict[str, Any] | None:
    fabric, out = run.fabric, run.out
    notes = look_over(run.sources, allow_overlap or resume)  # what was begun goes on
    restored = resume and run.restore()
    pin = fabric.device.type == "cuda"
    loader = training_loader(run.experiment, run.sources, run.step, fabric.global_rank, fabric.world_size, pin)
    if fabric.is_global_zero:
        _begin(run, folder, notes, warn)
    if not restored:
        run.save()  # a run that is stopped from here on can be resumed
    with Log(run.experiment, out, run.step) if fabric.is_global_zero else nullcontext() as log:
        if restored and run.scored and run.result is None:  # of an older version, which saved before it evaluated
            _take_stock(run, log)
        elif restored:
            run.publish()
        if log:
            print(_outline(run), file=sys.stderr)
        _take_steps(run, loader, log)
        return _end(run, folder, notes) if log else None
