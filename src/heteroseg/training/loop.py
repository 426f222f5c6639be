"""The training loop, on lightning's Fabric: devices, processes, precision are its business, the rest ours."""

import csv
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.fabric.loggers import TensorBoardLogger
from lightning.fabric.plugins import MixedPrecision
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from heteroseg.errors import HeterosegError, warn
from heteroseg.evaluation.scores import evaluate
from heteroseg.experiment.config import Experiment, TrainConfig
from heteroseg.experiment.sources import open_sources, write_skipped
from heteroseg.files import write_json, write_text
from heteroseg.labels.space import load_label_space
from heteroseg.labels.taxonomy import load_taxonomy
from heteroseg.model.card import mean_miou
from heteroseg.model.model import Model, model_file, save_model
from heteroseg.networks.network import build_network
from heteroseg.provenance import facts
from heteroseg.supervision.coverage import look_over
from heteroseg.supervision.loss import Sums
from heteroseg.training.batches import Batch, batches, training_loader
from heteroseg.training.objective import Objective
from heteroseg.training.optimiser import (
    build_optimiser,
    keep_freed_memory,
    learning_rate,
    memory_layout,
    weight_average,
)
from heteroseg.writing import require_empty, written


class Run:
    """One training run in its folder: network, optimiser, average, step, and where they are kept."""

    def __init__(self, experiment: Experiment, folder: Path, out: Path, fabric: Fabric):
        self.experiment, self.out, self.fabric = experiment, out, fabric
        self.state_file = out / "state.pt"
        self.sources = open_sources(experiment, folder)
        if not any(s.train for s in self.sources):
            raise HeterosegError("no dataset of the experiment has a train split; set train: to the split to train on")
        self.tree = self.sources[0].space.taxonomy
        torch.manual_seed(experiment.train.seed)
        network = build_network(experiment.model, self.tree)
        multiple, crop = network.multiple, experiment.train.crop
        if crop[0] % multiple or crop[1] % multiple:
            raise HeterosegError(
                f"train.crop: expected multiples of {multiple}, the cells of this network, found {list(crop)}"
            )
        layout = memory_layout(network, fabric.device)
        network = network.to(memory_format=layout)  # type: ignore[call-overload]
        ema = experiment.train.ema
        self.average = weight_average(network, ema).to(fabric.device) if ema else None
        optimiser = build_optimiser(network, experiment.optimiser)
        self.rates = [g["lr"] for g in optimiser.param_groups]
        self.network, self.optimiser = fabric.setup(network, optimiser)
        self.objective = Objective(experiment, self.sources, fabric, layout)
        model_file(self.model())  # what could not be loaded later is told now
        self.step = 0
        self.best = -1.0
        self.seconds = 0.0  # spent in training steps, over all resumed parts

    def model(self) -> Model:
        """The network as it would be used: averaged if the run averages."""
        network: Any = (self.average or self.network).module  # a Network, inside what wraps it
        e = self.experiment
        spaces = {s.space.name: s.space for s in self.sources}
        return Model(e.name, network, self.tree, spaces, e.model, e.evaluate.decision)

    def save(self) -> None:
        """Write `last/` and the state that a resumed run continues from."""
        if not self.fabric.is_global_zero:
            return
        state = {
            "step": self.step,
            "best": self.best,
            "seconds": self.seconds,
            "network": self.network.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average and self.average.module.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),  # of 16: the factor on the loss
        }
        with written(self.state_file) as temporary:
            torch.save(state, temporary)
        save_model(self.model(), self.out / "last")

    def restore(self) -> None:
        """Go on from `state.pt`; a file that cannot be read, and labels that mean something else by now, raise."""
        if (self.out / "last" / "taxonomy.yaml").is_file():
            self._require_same_labels()
        try:
            state = torch.load(self.state_file, map_location=self.fabric.device, weights_only=True)
        except (OSError, RuntimeError, EOFError) as error:
            raise HeterosegError(f"{self.state_file}: cannot be resumed from, {str(error).splitlines()[0]}") from None
        self.step, self.best, self.seconds = state["step"], state["best"], state["seconds"]
        self.network.module.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        if precision := state.get("precision"):
            self.fabric.strategy.precision.load_state_dict(precision)
        if self.average is not None:
            self.average.module.load_state_dict(state["average"])
            self.average.n_averaged.fill_(self.step + 1)

    def _require_same_labels(self) -> None:
        last = self.out / "last"
        free: Any = {"description": True, "taxonomy": True, "labels": {"__all__": {"color"}}}
        tree = load_taxonomy("taxonomy.yaml", last, self.experiment.model.void)
        changed = [] if tree.same_tree(self.tree) else [f"taxonomy {tree.name!r}"]
        for space in [] if changed else [source.space for source in self.sources]:
            begun = load_label_space(f"{space.name}.yaml", tree, last / "label_spaces")
            if begun.file.model_dump(exclude=free) != space.file.model_dump(exclude=free):
                changed.append(f"label space {space.name!r}")
        if changed:
            told = f"this run began with another content of {', '.join(dict.fromkeys(changed))}"
            raise HeterosegError(f"{self.out}: {told}; restore it, or start a new run in another folder")

    def evaluate(self) -> dict[str, Any] | None:
        """Score the network (first process only), keep it as `best/` when its mean mIoU is the highest so far."""
        result = None
        if self.fabric.is_global_zero and any(s.val for s in self.sources):
            model = self.model()
            result = evaluate(model, self.sources)
            if (mean := mean_miou(result)) > self.best:
                self.best = mean
                save_model(model, self.out / "best")
            write_json(self.out / "evaluation" / f"{self.step:07d}.json", result)
        self.fabric.barrier()
        return result

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


class Log:
    """Rows of numbers to RUN/log.csv (one per name, so that new names need no new columns) and to TensorBoard."""

    def __init__(self, out: Path, step: int):
        self.board = TensorBoardLogger(out, name="tensorboard", version="")
        self.path = out / "log.csv"
        rows = []
        if self.path.exists() and step:  # a resumed run goes on after its last saved step
            with self.path.open(newline="") as file:
                rows = [row for row in csv.reader(file) if row and row[0].isdigit() and int(row[0]) <= step]
        write_text(self.path, "step,name,value\n" + "".join(f"{','.join(r)}\n" for r in rows))

    def write(self, row: dict[str, float]) -> None:
        step = int(row["step"])
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerows((step, k, f"{v:.6g}") for k, v in row.items() if k != "step")
        self.board.log_metrics({k: v for k, v in row.items() if k != "step"}, step)


def _prepare_folder(experiment: Experiment, out: Path, resume: bool) -> None:
    """Refuse to write over another run, and to resume something else than what began here."""
    if not resume:
        require_empty(out, "continue it with --resume or choose another --out")
        return
    if not (out / "state.pt").exists():
        raise HeterosegError(f"{out}: there is nothing to resume (no state.pt); start it without --resume")
    begun = (out / "experiment.json").read_text()
    known = Experiment.model_validate_json(begun)  # keys that are younger than the run have defaults
    changed = [key for key in Experiment.model_fields if getattr(known, key) != getattr(experiment, key)]
    if changed:
        raise HeterosegError(
            f"{out}: this run began with another experiment ({', '.join(changed)} differ); resume with the same "
            "one, or start a new run in another folder"
        )


def _launch(config: TrainConfig) -> Fabric:
    """Start the processes of a run on the devices that it asks for."""
    precision: Any = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[config.precision]
    where: Any = {"accelerator": config.accelerator, "devices": config.devices, "num_nodes": config.nodes}
    try:
        on_cpu = config.precision == "16" and Fabric(**where).device.type == "cpu"  # where Fabric takes bf16 instead
        how: Any = {"plugins": MixedPrecision("16-mixed", "cpu")} if on_cpu else {"precision": precision}
        fabric = Fabric(**where, **how)
    except (ValueError, RuntimeError, ModuleNotFoundError, MisconfigurationException) as error:
        raise HeterosegError(f"train.accelerator, train.devices: {str(error).splitlines()[0]}") from None
    fabric.launch()
    if fabric.device.type == "cpu":
        keep_freed_memory()
    return fabric


def _take_steps(run: Run, loader: DataLoader, log: Log | None) -> None:
    """Train on every batch of the loader; save and evaluate in between, as the experiment says."""
    config = run.experiment.train
    run.training_mode()
    silent = not run.fabric.is_global_zero
    bar = tqdm(batches(loader), total=config.steps, initial=run.step, unit="step", disable=silent, dynamic_ncols=True)
    begin = time.perf_counter()
    for batch in bar:
        row = run.train_step(batch)
        run.seconds += time.perf_counter() - begin
        if row and log:
            log.write(row)
            bar.set_postfix(loss=f"{row['loss']:.3f}")
        if run.step < config.steps:  # what follows the last step comes after the loop
            _between_steps(run, log)
        begin = time.perf_counter()


def _between_steps(run: Run, log: Log | None) -> None:
    config = run.experiment.train
    if run.step % config.save_every == 0:
        run.save()
    if config.evaluate_every and run.step % config.evaluate_every == 0:
        result = run.evaluate()
        run.training_mode()
        if result and log:
            mious = {f"{name}/miou": d["miou"] or 0.0 for name, d in result["datasets"].items()}
            log.write({"step": run.step} | mious)


def _begin(run: Run, folder: Path, notes: list[str], warn: Callable[[str], None]) -> None:
    """Write what a run begins with, and tell the warnings."""
    write_text(run.out / "experiment.json", run.experiment.model_dump_json(indent=2) + "\n")
    write_json(run.out / "facts.json", facts(folder))
    if any(source.skipped for source in run.sources):
        write_skipped(run.sources, run.out / "skipped.txt")
    for note in notes:
        warn(note)


def _end(run: Run, folder: Path, notes: list[str], result: dict[str, Any] | None) -> None:
    """Write what a run ends with. Beside the scores stand the warnings after a look at all masks, or the notes from
    before training where one of them is faulty."""
    write_json(run.out / "facts.json", facts(folder) | {"training seconds": f"{run.seconds:.0f}"})
    if result is None:
        save_model(run.model(), run.out / "best")
        return
    result["training_warnings"] = notes
    with suppress(HeterosegError):
        result["training_warnings"] = look_over(run.sources, True, sys.maxsize)
    write_json(run.out / "evaluation.json", result)


def train(
    experiment: Experiment,
    folder: Path,
    out: Path,
    resume: bool = False,
    allow_overlap: bool = False,
    warn: Callable[[str], None] = warn,
) -> dict[str, Any] | None:
    """Train a network and leave RUN in `out`: best/, last/, log.csv, tensorboard/, evaluation/*.json, state.pt, and
    skipped.txt where the option skip_faulty left annotation out.

    `folder` is where the experiment's relative paths start. `resume` goes on with the run in `out`. `warn` gets what
    looks wrong in the data, a sentence each, on stderr by default. Returns the last evaluation (of `last/`), None where
    no dataset has a val split or in all processes but the first. A faulty file, a dataset without labels, val images
    that are train images too (unless `allow_overlap`), a setting that cannot work and a loss that is no number raise
    HeterosegError.

    Example:
        >>> import tempfile
        >>> from heteroseg import Experiment, load, train
        >>> from heteroseg.scenes import generate
        >>> signs = {"root": "gtsdb", "reader": "gtsdb", "label_space": "gtsdb", "val": None}
        >>> tiny = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
        >>> experiment = Experiment(
        ...     name="signs",
        ...     taxonomy="streets-108",
        ...     datasets={"signs": signs},
        ...     model={"backbone": "hf:resnet", "backbone_options": tiny, "width": 16},
        ...     train={"steps": 2, "batch": 2, "crop": (64, 64), "workers": 0, "accelerator": "cpu"},
        ... )
        >>> with tempfile.TemporaryDirectory() as root:
        ...     generate(Path(root), train=2, val=0, size=(64, 96))
        ...     train(experiment, folder=Path(root), out=Path(root, "run"))
        ...     load(Path(root, "run")).name
        'signs'
    """
    _prepare_folder(experiment, out, resume)  # before other processes are started, so that a fault is told once
    fabric = _launch(experiment.train)
    run = Run(experiment, folder, out, fabric)
    notes = look_over(run.sources, allow_overlap or resume)  # what was begun goes on
    if resume:
        run.restore()
    pin = fabric.device.type == "cuda"
    loader = training_loader(experiment, run.sources, run.step, fabric.global_rank, fabric.world_size, pin)
    if fabric.is_global_zero:
        _begin(run, folder, notes, warn)
    if not resume:
        run.save()  # a run that is stopped from here on can be resumed
    log = Log(out, run.step) if fabric.is_global_zero else None
    _take_steps(run, loader, log)
    run.save()
    result = run.evaluate()
    if log:
        _end(run, folder, notes, result)
        log.board.finalize("success")
    return result
