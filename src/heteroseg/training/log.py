"""The numbers of a run, for people and programs: log.csv, and beside it what `train.logger` names."""

import csv
import os
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from heteroseg.errors import HeterosegError, warn
from heteroseg.experiment.config import Experiment
from heteroseg.files import write_json
from heteroseg.model.run_folder import read_log, read_logger
from heteroseg.writing import written

Send = Callable[[dict[str, float], int], object]
"""Takes numbers by name, and their step."""
End = Callable[[bool], object]
"""Ends a logger; whether the training came to its end."""


def _tensorboard(experiment: Experiment, out: Path, step: int, known: str | None) -> tuple[Send, End, str | None]:
    from torch.utils.tensorboard import SummaryWriter

    board = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1 if step else None)

    def send(row: dict[str, float], step: int) -> None:
        for name, value in row.items():
            board.add_scalar(name, value, step)

    return send, lambda _: board.close(), None


def _wandb(experiment: Experiment, out: Path, step: int, known: str | None) -> tuple[Send, End, str | None]:
    import wandb

    project, name = os.environ.get("WANDB_PROJECT") or experiment.name, out.resolve().name
    config = experiment.model_dump(mode="json")
    run = wandb.init(project=project, name=name, id=known, resume="allow", dir=str(out), config=config)
    return run.log, lambda done: run.finish(0 if done else 1), run.id  # a step that it has already it does not take


def _mlflow(experiment: Experiment, out: Path, step: int, known: str | None) -> tuple[Send, End, str | None]:
    import mlflow

    if not os.environ.keys() & {"MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"}:
        mlflow.set_experiment(experiment.name)
    run = mlflow.start_run(run_id=known, run_name=out.resolve().name, nested=True).info.run_id
    sections = experiment.model_dump(mode="json", include={"model", "loss", "optimiser", "train", "evaluate"})
    mlflow.log_params({f"{s}.{k}": str(v)[:500] for s, keys in sections.items() for k, v in keys.items()})

    def send(row: dict[str, float], step: int) -> None:
        mlflow.log_metrics({re.sub(r"[^\w\-. /]", "_", k, flags=re.ASCII): v for k, v in row.items()}, step, run_id=run)

    return send, lambda done: mlflow.end_run("FINISHED" if done else "KILLED"), run


LOGGERS = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}


def require_logger(name: str) -> None:
    """Raise HeterosegError where the package of a logger is not installed."""
    if name in LOGGERS and find_spec(name) is None:
        raise HeterosegError(f"train.logger: {name} needs the package {name}; pip install {name}")


class Log:
    """Rows of numbers to RUN/log.csv (one per name, so that new names need no new columns), and to a logger.

    A resumed run goes on after its last saved step, in the same run of its logger, whose id is in logger.json: later
    rows are taken out of log.csv, as they will come again. A logger that fails later than at its start is told once.
    """

    def __init__(self, experiment: Experiment, out: Path, step: int):
        self.path, self.logger = out / "log.csv", experiment.train.logger
        rows, faulty = read_log(self.path) if step else ([], 0)
        if faulty:
            warn(f"{self.path}: {faulty} lines are damaged and left out; the curves of the report lack them")
        with written(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            file.write("step,name,value\n")
            csv.writer(file, lineterminator="\n").writerows(row for row in rows if row[0] <= step)
        self.send: Send | None = None
        self.end: End = bool
        if begin := LOGGERS.get(self.logger):
            known = read_logger(out)
            try:
                self.send, self.end, run = begin(experiment, out, step, known)
            except Exception as error:
                raise HeterosegError(
                    f"train.logger: {self.logger} does not begin, {_reason(error)}; mend it and resume"
                ) from error
            if run and run != known:
                write_json(out / "logger.json", {"logger": self.logger, "id": run})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pass_on(self.end, kind is None)

    def write(self, row: dict[str, float]) -> None:
        step = int(row["step"])
        with self.path.open("a", newline="", encoding="utf-8") as file:
            rows = ((step, k, f"{v:.6g}") for k, v in row.items() if k != "step")
            csv.writer(file, lineterminator="\n").writerows(rows)
        if self.send:
            self._pass_on(self.send, {k: v for k, v in row.items() if k != "step"}, step)

    def _pass_on(self, call: Callable[..., object], *what: Any) -> None:
        try:
            call(*what)
        except Exception as error:
            self.send = None
            warn(f"train.logger: {self.logger} takes no more, {_reason(error)}; training goes on, log.csv has all")


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__
