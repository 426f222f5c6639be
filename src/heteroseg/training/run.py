"""One training run: what moves in a step, and what is kept of it."""

import json
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from heteroseg.errors import HeterosegError, warn
from heteroseg.evaluation.scores import evaluate
from heteroseg.experiment.config import WHOLE, Experiment, TrainConfig
from heteroseg.experiment.sources import open_sources, open_spaces
from heteroseg.files import write_json
from heteroseg.labels.space import LabelSpaceFile, build_label_space
from heteroseg.model.beginning import first_network, kept_spaces, open_model, with_model_of
from heteroseg.model.card import score_of
from heteroseg.model.growing import freeze_but, grown, new_nodes, read_new
from heteroseg.model.model import Model, model_file, save_model
from heteroseg.networks.lora import add_lora, merged
from heteroseg.supervision.loss import Sums
from heteroseg.training.batches import Batch
from heteroseg.training.objective import Objective
from heteroseg.training.optimiser import (
    build_optimiser,
    learning_rate,
    memory_layout,
    rest_idle,
    weight_average,
)
from heteroseg.training.state import (
    has_state,
    read_state,
    require_same_experiment,
    require_same_labels,
    write_state,
)


class Run:
    """One training run in its folder: network, optimiser, average, step, and where they are kept."""

    def __init__(self, experiment: Experiment, folder: Path, out: Path, fabric: Fabric):
        begin = None if has_state(out) else experiment.train.begin  # what was begun goes on from its state
        source = open_model(begin, folder, "begin", experiment.model.backbone) if begin else None
        if source:
            experiment = with_model_of(experiment, source)
        self.experiment, self.out, self.fabric = experiment, out, fabric
        self.tree, _ = open_spaces(experiment, folder)
        torch.manual_seed(experiment.train.seed)
        if source and experiment.train.grow:
            self.experiment = experiment = grown(experiment, self.tree, source)
        # wrong options are told before data are read
        network, self.origins = first_network(experiment, self.tree, source)
        if experiment.model.lora:
            add_lora(network, experiment.model.lora)
        self.others = kept_spaces(source, self.tree) if source else {}  # that no dataset of this run has
        self.shared: list[str] = []
        if experiment.train.grow:
            new = new_nodes(self.origins) if source else read_new(out)
            self.shared = freeze_but(network, self.tree, new)
        multiple, crop = network.multiple, experiment.train.crop
        if crop[0] % multiple or crop[1] % multiple:
            raise HeterosegError(
                f"train.crop: expected multiples of {multiple}, the cells of this network, found {list(crop)}"
            )
        self.sources = open_sources(experiment, folder)
        if not any(s.train for s in self.sources):
            raise HeterosegError("no dataset of the experiment has a train split; set train: to the split to train on")
        rest_idle(network)
        layout = memory_layout(network, fabric.device)
        _require_scored(experiment.train, [s.name for s in self.sources if s.val])
        network = network.to(memory_format=layout)  # type: ignore[call-overload]
        ema = experiment.train.ema
        self.average = weight_average(network, ema).to(fabric.device) if ema else None
        fused = fabric.device.type == "cpu" and experiment.train.precision != "16"
        optimiser = build_optimiser(network, experiment.optimiser, fused)
        self.rates = [g["lr"] for g in optimiser.param_groups]
        self.network, self.optimiser = fabric.setup(network, optimiser)
        by = experiment.train.teacher
        teacher = open_model(by, folder, "teacher", experiment.model.backbone) if by else None
        self.objective = Objective(experiment, self.sources, fabric, layout, teacher)
        model_file(self.model())  # what could not be loaded later is told now
        self.step = 0
        self.saved: int | None = None  # the step of the last state that was written
        self.result: dict[str, Any] | None = None  # the evaluation at this step
        self.best, self.best_step = -1.0, -1
        self.raised_from = experiment.train.steps  # what a resumed run was to have
        self.seconds = 0.0  # spent in training steps, over all resumed parts

    def model(self) -> Model:
        """The network as it would be used: averaged if the run averages, adapters merged."""
        network: Any = (self.average or self.network).module  # a Network, inside what wraps it
        e = self.experiment
        spaces = {s.space.name: s.space for s in self.sources}
        return Model(e.name, merged(network), self.tree, self.others | spaces, e.model, e.evaluate.decision)

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
            "teacher": self.objective.teacher and self.objective.teacher.digest,
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
        if text := state.get("experiment"):  # runs of older versions lack it, as some of the others
            begun = Experiment.model_validate_json(text)
            require_same_experiment(self.out, begun, self.experiment)
            self.raised_from = begun.train.steps
        if (teacher := self.objective.teacher) and teacher.digest != state.get("teacher"):
            told = "expected the weights of the teacher that the run began with, found others"
            raise HeterosegError(f"{self.out}: train.teacher: {told}; put them back, or start a new run")
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
        """Make norms learn statistics again after an evaluation, but where `freeze_norm` keeps what was learnt before:
        those of the encoder, or of all of a network that is taken whole."""
        train, network = self.experiment.train, self.network.module
        self.network.train(not train.grow)  # what is frozen keeps its statistics
        if train.freeze_norm:
            whole = train.begin or self.experiment.model.backbone.startswith(WHOLE)
            for module in (network if whole else network.encoder).modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def train_step(self, batch: Batch) -> dict[str, float]:
        """One step; returns the loss and the mean of every classifier's strong and weak terms."""
        e = self.experiment
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * learning_rate(e.optimiser, self.step, e.train.steps)
        torch.manual_seed(e.train.seed * 7_368_787 + self.step * 1013 + self.fabric.global_rank)  # dropout
        loss, sums, taught = self.objective(self.network, self.fabric.to_device(batch), self.step)
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
        return self._log(loss, sums, taught) if self.step % e.train.log_every == 0 else {}

    def _log(self, loss: Tensor, sums: Sums, taught: Tensor | None) -> dict[str, float]:
        means = (sums.nll.detach() / sums.weight.clamp(min=1e-12)).cpu()
        row = {"step": self.step, "lr": self.optimiser.param_groups[0]["lr"], "loss": loss.item()}
        if taught is not None:
            row["teacher"] = taught.item()
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
