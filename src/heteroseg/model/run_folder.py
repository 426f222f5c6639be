"""What a RUN folder holds beside its MODELs. A damaged file is told in one sentence, with what to do."""

import csv
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import Experiment
from heteroseg.files import in_our_words, read_json

OLD = ".old-"
"""Begins the name of a MODEL while another one takes its place."""
AGAIN = "take it away, and the command that trained the run writes it again with --resume"


class _Scores(BaseModel):
    """What is read of a dataset's scores; older runs have less than the newest."""

    model_config = ConfigDict(extra="allow")
    label_space: str
    miou: float | None
    macc: float | None
    acc: float | None
    per_class: dict[str, dict[str, float | None]]
    levels: dict[str, dict[str, Any]] = {}
    confusion: dict[str, dict[str, int]] = {}
    per_image: dict[str, dict[str, Any]] = {}


class _Evaluation(BaseModel):
    datasets: dict[str, _Scores]
    warnings: list[str] = []
    training_warnings: list[str] = []


def _read(path: Path, kind: Any, advice: str = AGAIN) -> Any:
    """The content of a JSON file that `train` wrote, None where there is none; another or damaged one raises."""
    if not path.is_file():
        return None
    try:
        data = read_json(path)
        TypeAdapter(kind).validate_python(data, context={"file": path})
    except HeterosegError as error:
        raise HeterosegError(f"{error.faults[0].partition('; ')[0]}; {advice}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"])) or "the file"
        found = f"found {place} to be something else ({in_our_words(fault['msg'])})"
        raise HeterosegError(f"{path}: expected what `heteroseg train` writes, {found}; {advice}") from None
    return data


def read_begun(run: Path) -> Experiment | None:
    """The experiment with which a run began; keys that are younger than the run have defaults."""
    data = _read(run / "experiment.json", Experiment)
    return None if data is None else Experiment.model_validate(data)


def read_facts(run: Path) -> dict[str, str]:
    """When, where and with what a run was trained; empty where that is not known."""
    return _read(run / "facts.json", dict[str, str]) or {}


def read_logger(run: Path) -> str | None:
    """The id under which the logger of a run knows it."""
    return (_read(run / "logger.json", dict[str, str]) or {}).get("id")


def training_seconds(run: Path) -> float | None:
    """How long a run was trained, None where it is not done or its facts are damaged."""
    try:
        return float(read_facts(run)["training seconds"])
    except (HeterosegError, KeyError, ValueError):
        return None


def read_evaluation(run: Path) -> dict[str, Any]:
    """The scores of `last/` at the end of a run; no datasets where it was not evaluated."""
    return _read(run / "evaluation.json", _Evaluation) or {"datasets": {}}


def read_evaluations(run: Path) -> list[tuple[int, dict[str, Any]]]:
    """All evaluations of a run by their step."""
    files = sorted(file for file in (run / "evaluation").glob("*.json") if file.stem.isdecimal())
    advice = "take it away, and the run lacks the scores of this step"
    return [(int(file.stem), _read(file, _Evaluation, advice)) for file in files]


def read_log(path: Path) -> tuple[list[tuple[int, str, str]], int]:
    """The rows of log.csv (step, name, value), and how many of its lines are damaged.

    What stands behind the last end of a line is none: a killed run was at it, and half a number may be one too. There
    are no rows where there is no file.
    """
    if not path.is_file():
        return [], 0
    rows, faulty = [], []
    for line in path.read_bytes().decode("utf-8", "replace").split("\n")[:-1]:
        try:
            ((step, name, value),) = csv.reader([line])
            float(value)
            rows.append((int(step), name, value))
        except (ValueError, csv.Error):
            faulty.append(line.strip())
    return rows, len([line for line in faulty if line not in ("step,name,value", "")])
