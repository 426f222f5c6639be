"""The training loop, on lightning's Fabric: devices, processes, precision are its business, the rest ours."""

import json
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from heteroseg.errors import HeterosegError, counted, listed, warn
from heteroseg.evaluation.scores import evaluate
from heteroseg.experiment.config import Experiment, TrainConfig
from heteroseg.experiment.sources import open_sources, open_spaces, write_skipped
from heteroseg.files import write_json, write_text
from heteroseg.labels.space import LabelSpaceFile, build_label_space
from heteroseg.model.beginning import first_network, kept_spaces, open_model, tell_origins, with_model_of
from heteroseg.model.card import score_of
from heteroseg.model.model import Model, model_file, save_model
from heteroseg.provenance import facts
from heteroseg.supervision.coverage import AFTERWARDS, look_over
from heteroseg.supervision.loss import Sums
from heteroseg.training.batches import Batch, batches, training_loader
from heteroseg.training.log import Log, require_logger
from heteroseg.training.objective import Objective
from heteroseg.training.optimiser import (
    build_optimiser,
    learning_rate,
    memory_layout,
    weight_average,
)
from heteroseg.training.processes import launch
from heteroseg.training.state import (
    clear,
    has_state,
    hold,
    prepare_folder,
    read_state,
    require_same_experiment,
    require_same_labels,
    write_state,
)
from heteroseg.training.stops import told
from heteroseg.writing import put_aside


class Run:
    """One training run in its folder: network, optimiser, average, step, and where they are kept."""

    def __init__(self, experiment: Experiment, folder: Path, out: Path, fabric: Fabric):
        begin = None if has_state(out) else experiment.train.begin  # what was begun goes on from its state
        source = open_model(begin, folder, "begin") if begin else None
        if source:
            experiment = with_model_of(experiment, source)
        self.experiment, self.out, self.fabric = experiment, out, fabric
        self.tree, _ = open_spaces(experiment, folder)
        torch.manual_seed(experiment.train.seed)
        # wrong options are told before data are read
        network, self.origins = first_network(experiment, self.tree, source)
        self.others = kept_spaces(source, self.tree) if source else {}  # that no dataset of this run has
        multiple, crop = network.multiple, experiment.train.crop
        if crop[0] % multiple or crop[1] % multiple:
            raise HeterosegError(
                f"train.crop: expected multiples of {multiple}, the cells of this network, found {list(crop)}"
            )
        self.sources = open_sources(experiment, folder)
        if not any(s.train for s in self.sources):
            raise HeterosegError("no dataset of the experiment has a train split; set train: to the split to train on")
        layout = memory_layout(network, fabric.device)
        _require_scored(experiment.train, [s.name for s in self.sources if s.val])
        network = network.to(memory_format=layout)  # type: ignore[call-overload]
        ema = experiment.train.ema
        self.average = weight_average(network, ema).to(fabric.device) if ema else None
        optimiser = build_optimiser(network, experiment.optimiser)
        self.rates = [g["lr"] for g in optimiser.param_groups]
        self.network, self.optimiser = fabric.setup(network, optimiser)
        self.objective = Objective(experiment, self.sources, fabric, layout)
        model_file(self.model())  # what could not be loaded later is told now
        self.step = 0
        self.saved: int | None = None  # the step of the last state that was written
        self.result: dict[str, Any] | None = None  # the evaluation at this step
        self.best, self.best_step = -1.0, -1
        self.seconds = 0.0  # spent in training steps, over all resumed parts

    def model(self) -> Model:
        """The network as it would be used: averaged if the run averages."""
        network: Any = (self.average or self.network).module  # a Network, inside what wraps it
        e = self.experiment
        spaces = {s.space.name: s.space for s in self.sources}
        return Model(e.name, network, self.tree, self.others | spaces, e.model, e.evaluate.decision)

    def save(self) -> None:
        """Write the state, then what follows from it (first process only).

        The order is what lets a run be killed anywhere: rows of the log stand there before a state that is later than
        they are; all else is written after the state, which holds all of it, and again by the run that goes on.
        """
        if not self.fabric.is_global_zero:
            return
        state = {
            "experiment": self.experiment.model_dump_json(),
            "step": self.step,
            "best": self.best,
            "best_step": self.best_step,
            "seconds": self.seconds,
            "evaluation": self.result and json.dumps(self.result),
            "network": self.network.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average and self.average.module.state_dict(),
            "spaces": {name: space.file.model_dump_json() for name, space in self.others.items()},
            "precision": self.fabric.strategy.precision.state_dict(),  # of 16: the factor on the loss
        }
        write_state(self.out, state)
        self.saved = self.step
        self.publish()

    def publish(self) -> None:
        """Write what follows from the state: `last/`, and `best/` and the evaluation where they are of this step."""
        if not self.fabric.is_global_zero:
            return
        save_model(self.model(), self.out / "last")
        if self.best_step == self.step:
            save_model(self.model(), self.out / "best")
        if self.result:
            write_json(self.out / "evaluation" / f"{self.step:07d}.json", self.result)

    def restore(self) -> bool:
        """Go on from the saved state, False where there is none; see `read_state`."""
        require_same_labels(self.out, self.experiment, self.tree, [source.space for source in self.sources])
        told = read_state(self.out, self.fabric.device, self._take)
        self.fabric.barrier()  # from here on the first process may write
        if told and self.fabric.is_global_zero:
            warn(told)
        self.saved = None if told is None else self.step
        return told is not None

    def _take(self, state: dict[str, Any]) -> None:
        if begun := state.get("experiment"):  # runs of older versions lack it, as some of the others
            require_same_experiment(self.out, Experiment.model_validate_json(begun), self.experiment)
        self.step, self.best, self.seconds = state["step"], state["best"], state["seconds"]
        self.best_step, evaluation = state.get("best_step", -1), state.get("evaluation")
        self.result = json.loads(evaluation) if evaluation else None
        others = (LabelSpaceFile.model_validate_json(file) for file in state.get("spaces", {}).values())
        self.others = {file.name: build_label_space(file, self.tree) for file in others}
        self.network.module.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        if precision := state.get("precision"):
            self.fabric.strategy.precision.load_state_dict(precision)
        if self.average is not None:
            self.average.module.load_state_dict(state["average"])
            self.average.n_averaged.fill_(self.step + 1)

    @property
    def scored(self) -> bool:
        """Whether this step is one that is evaluated."""
        config = self.experiment.train
        every = config.evaluate_every
        return self.step == config.steps or bool(every and self.step and self.step % every == 0)

    def evaluate(self) -> None:
        """Score the network (first process only); one with the highest `train.best` so far will be `best/`.

        Without val images that is the last one.
        """
        if self.fabric.is_global_zero and any(s.val for s in self.sources):
            self.result = evaluate(self.model(), self.sources)
            if (score := score_of(self.result, self.experiment.train.best)) > self.best:
                self.best, self.best_step = score, self.step
        elif self.step == self.experiment.train.steps:
            self.best_step = self.step
        self.best, self.best_step = self.fabric.broadcast((self.best, self.best_step))

    @property
    def done(self) -> bool:
        """Whether all steps are taken, or as many evaluations as `patience` says were no better than the best."""
        config = self.experiment.train
        worse = self.best >= 0 and self.step - self.best_step >= config.patience * config.evaluate_every > 0
        return self.step >= config.steps or worse

    def training_mode(self) -> None:
        """Make norms learn statistics again after an evaluation, but where `freeze_norm` keeps them."""
        self.network.train()
        if self.experiment.train.freeze_norm:
            for module in self.network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def train_step(self, batch: Batch) -> dict[str, float]:
        """One step; returns the loss and the mean of every classifier's strong and weak terms."""
        e = self.experiment
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * learning_rate(e.optimiser, self.step, e.train.steps)
        torch.manual_seed(e.train.seed * 7_368_787 + self.step * 1013 + self.fabric.global_rank)  # dropout
        loss, sums = self.objective(self.network, self.fabric.to_device(batch), self.step)
        if not torch.isfinite(loss):
            raise HeterosegError(
                f"step {self.step}: the loss is {loss.item()}, expected a finite number; the batch was "
                f"{', '.join(batch.names)}; look at these images, lower optimiser.lr or set optimiser.clip"
            )
        self.fabric.backward(loss)
        if clip := e.optimiser.clip:
            self.fabric.clip_gradients(self.network, self.optimiser, max_norm=clip, error_if_nonfinite=False)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.step += 1
        self.result = None
        if self.average is not None:
            self.average.update_parameters(self.network.module)
        return self._log(loss, sums) if self.step % e.train.log_every == 0 else {}

    def _log(self, loss: Tensor, sums: Sums) -> dict[str, float]:
        means = (sums.nll.detach() / sums.weight.clamp(min=1e-12)).cpu()
        row = {"step": self.step, "lr": self.optimiser.param_groups[0]["lr"], "loss": loss.item()}
        for i, c in enumerate(self.tree.classifiers):
            for kind, name in enumerate(("mask", "boxes")):
                if sums.weight[i, kind] > 0:
                    row[f"{self.tree.names[c.node]}/{name}"] = means[i, kind].item()
        return row


def _require_scored(config: TrainConfig, names: list[str]) -> None:
    """Raise HeterosegError where no score can be told as the settings ask; `names` are the datasets with val images."""
    name, of_one, _ = config.best.rpartition("/")
    if of_one and name not in names:
        known = ", ".join(names) or "none"
        raise HeterosegError(f"train.best: expected a dataset that has val images ({known}), found {name!r}")
    if config.patience and not names:
        raise HeterosegError("train.patience has no effect, no dataset has val images; leave it out")


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
    on = f"{fabric.device}, {counted(fabric.world_size, 'process')}"
    dropped = run.model().torch_network.dropped
    size += f" (without {listed(dropped, 3)})" if dropped else ""
    images = ", ".join(f"{s.name} {len(s.train)} and {len(s.val)}" for s in run.sources)
    return (
        f"training {run.experiment.name} on {on}: {size}, step {run.step} of {config.steps}\n"
        f"images to train on and to evaluate on: {images}\n"
        f"saved in {run.out} every {config.save_every} steps; Ctrl-C stops, --resume goes on"
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
    folder, out = Path(folder), Path(out)
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
