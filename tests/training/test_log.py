"""Loggers: their numbers are those of log.csv, a resumed run goes on in the same run, and none stops a training."""

import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import Experiment, load_experiment
from heteroseg.model.run_folder import read_log
from heteroseg.training.log import Log
from heteroseg.training.loop import Run, train

FEW = ["train.steps=4", "train.log_every=1", "train.save_every=2", "train.evaluate_every=2"]


@pytest.fixture
def stopped_and_resumed(tiny_experiment, tmp_path, monkeypatch):
    """A run with some logger that is stopped one step after its last state, and goes on."""

    def both(*overrides: str) -> Path:
        experiment, step = load_experiment(tiny_experiment, [*FEW, *overrides]), Run.train_step

        def stop(self, batch):
            if self.step == 3:
                raise KeyboardInterrupt
            return step(self, batch)

        monkeypatch.setattr(Run, "train_step", stop)
        with pytest.raises(KeyboardInterrupt):
            train(*experiment, tmp_path / "run")
        monkeypatch.setattr(Run, "train_step", step)
        train(*experiment, tmp_path / "run", resume=True)
        return tmp_path / "run"

    return both


@pytest.fixture
def service(monkeypatch) -> SimpleNamespace:
    """What stands for the packages wandb and mlflow: it keeps what it is given, by run."""
    kept = SimpleNamespace(runs={}, ended=[], fault=None, asked=[])

    def put(run: str, row: dict, step: int) -> None:
        if kept.fault:
            raise kept.fault
        kept.runs.setdefault(run, []).extend((step, k, v) for k, v in row.items())

    def init(id=None, **how):
        kept.asked.append(how)
        run = id or f"run{len(kept.runs)}"
        return SimpleNamespace(id=run, log=lambda row, step: put(run, row, step), finish=kept.ended.append)

    def start_run(run_id=None, **how):
        kept.asked.append(how)
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id or f"run{len(kept.runs)}"))

    mlflow = {"set_experiment": kept.asked.append, "start_run": start_run, "log_params": kept.asked.append}
    mlflow |= {"log_metrics": lambda row, step, run_id: put(run_id, row, step), "end_run": kept.ended.append}
    for name, content in (("wandb", {"init": init}), ("mlflow", mlflow)):
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return kept


def numbers(run: Path) -> dict[tuple[int, str], float]:
    rows, faulty = read_log(run / "log.csv")
    assert not faulty
    return {(step, name): pytest.approx(float(value), rel=1e-4) for step, name, value in rows}


def test_tensorboard_has_the_numbers_of_the_log_once(stopped_and_resumed):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = stopped_and_resumed("train.logger=tensorboard")
    board = EventAccumulator(str(run / "tensorboard")).Reload()
    found = [((e.step, tag), e.value) for tag in board.Tags()["scalars"] for e in board.Scalars(tag)]
    assert len(found) == len(dict(found))
    assert dict(found) == numbers(run)


@pytest.mark.parametrize(("name", "ended"), [("wandb", [1, 0]), ("mlflow", ["KILLED", "FINISHED"])])
def test_a_resumed_run_goes_on_in_the_same_run_of_the_service(stopped_and_resumed, service, name, ended):
    run = stopped_and_resumed(f"train.logger={name}")
    assert json.loads((run / "logger.json").read_text()) == {"logger": name, "id": "run0"}
    plain = {(step, k.translate(str.maketrans("()", "__"))): v for (step, k), v in numbers(run).items()}
    assert {(step, k.translate(str.maketrans("()", "__"))): v for step, k, v in service.runs["run0"]} == plain
    assert list(service.runs) == ["run0"]
    assert service.ended == ended


def test_without_a_logger_there_is_the_log_alone(stopped_and_resumed):
    run = stopped_and_resumed()
    assert {step for step, _ in numbers(run)} == {1, 2, 3, 4}
    assert {"lr", "loss", "miou"} <= {name for _, name in numbers(run)}
    assert not (run / "tensorboard").exists()
    assert not (run / "logger.json").exists()


def experiment(logger: str) -> Experiment:
    signs = {"root": "gtsdb", "reader": "gtsdb", "label_space": "gtsdb"}
    return Experiment(name="t", taxonomy="streets-108", datasets={"signs": signs}, train={"logger": logger})


def test_a_service_that_fails_stops_no_training(service, tmp_path, capsys):
    with Log(experiment("mlflow"), tmp_path, 0) as log:
        log.write({"step": 1, "sign (front)/boxes": 2.5})
        service.fault = ConnectionError("no route to host\nmore")
        log.write({"step": 2, "loss": 2.0})
        log.write({"step": 3, "loss": 1.0})
    told = capsys.readouterr().err
    assert told.count("train.logger: mlflow takes no more, no route to host; training goes on, log.csv has all") == 1
    assert service.runs == {"run0": [(1, "sign _front_/boxes", 2.5)]}  # MLflow takes no brackets
    assert len(numbers(tmp_path)) == 3


def test_a_service_that_does_not_begin_is_told(service, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["wandb"], "init", lambda **_: (_ for _ in ()).throw(ValueError("log in first")))
    with pytest.raises(
        HeterosegError, match=r"^train\.logger: wandb does not begin, log in first; mend it and resume$"
    ):
        Log(experiment("wandb"), tmp_path, 0)


def test_a_damaged_note_of_the_run_is_told(service, tmp_path):
    (tmp_path / "logger.json").write_text("[]")
    with pytest.raises(HeterosegError, match=r"logger\.json: .* take it away"):
        Log(experiment("wandb"), tmp_path, 0)
