"""What a resumed run goes on from: the folder that it finds, its state, and the state before that."""

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any

import torch
from pydantic import BaseModel

from heteroseg.errors import HeterosegError, lacking, listed
from heteroseg.experiment.config import Experiment, as_begun
from heteroseg.labels.space import LabelSpace, load_label_space
from heteroseg.labels.taxonomy import Taxonomy, load_taxonomy
from heteroseg.model.run_folder import OLD, read_begun
from heteroseg.writing import PART, alone, is_part, require_empty, written

STATE, BEFORE = "state.pt", "state.before.pt"
BEGINNING = {"experiment.json", "facts.json", "skipped.txt", "begun.csv"}  # what a run writes before its first state
FREE = (
    "steps",
    "workers",
    "log_every",
    "logger",
    "save_every",
    "patience",
)  # keys of train that a resumed run may change
MOST_KEYS = 5  # that a message tells
UNFINISHED = (f"{PART}*", f"{OLD}*", f"evaluation/{PART}*")  # what a killed run leaves


def prepare_folder(experiment: Experiment, out: Path, resume: bool) -> Experiment:
    """Refuse to write over another run, and to resume something else than what began here.

    Returns the experiment, with the former defaults of a run that began with them.
    """
    if not resume:
        require_empty(out, "continue it with --resume or choose another --out")
        return experiment
    if not out.is_dir():
        raise HeterosegError(f"{out}: there is nothing to resume (no such folder); start it without --resume")
    names = {path.name for path in out.iterdir() if not is_part(path)}
    if not names & {STATE, BEFORE} and names - BEGINNING:
        told = f"there is nothing to resume (no {STATE}), and something else stands there ({min(names - BEGINNING)})"
        raise HeterosegError(f"{out}: {told}; choose another --out and start without --resume")
    if begun := read_begun(out):
        experiment = as_begun(experiment, begun)
        require_same_experiment(out, begun, experiment)
    return experiment


@contextmanager
def hold(experiment: Experiment, out: Path, resume: bool) -> Iterator[None]:
    """Keep other processes out of a RUN. One that ended just now has changed what `prepare_folder` looks at."""
    with alone(out):
        prepare_folder(experiment, out, resume)
        yield


def require_same_experiment(out: Path, begun: Experiment, experiment: Experiment) -> None:
    """Raise HeterosegError where a resumed run would be another. More steps, and what decides no weight, are free."""
    now, then = experiment.train, begun.train
    if now.steps < then.steps:
        told = f"expected train.steps of {then.steps} or more, with which this run began, found {now.steps}"
        raise HeterosegError(f"{out}: {told}; take as many, or start a new run in another folder")
    begun = begun.model_copy(update={"train": then.model_copy(update={key: getattr(now, key) for key in FREE})})
    changed = {key: _differing(getattr(begun, key), getattr(experiment, key)) for key in Experiment.model_fields}
    changed = {key: inner for key, inner in changed.items() if inner is not None}
    if changed:
        inner = [f"{key}.{name}" for key, names in changed.items() for name in names or ()]
        told = f"{', '.join(changed)} differ{f': {listed(inner, MOST_KEYS)}' if inner else ''}"
        raise HeterosegError(
            f"{out}: this run began with another experiment ({told}); resume with the same one, or start a new run in "
            "another folder"
        )


def _differing(one: Any, other: Any) -> list[str] | None:
    """The keys in which two values of an experiment differ, if they have some; None where they are the same."""
    if one == other:
        return None
    if not isinstance(one, BaseModel):
        return []
    return [key for key in type(one).model_fields if getattr(one, key) != getattr(other, key)]


def require_same_labels(out: Path, experiment: Experiment, tree: Taxonomy, spaces: list[LabelSpace]) -> None:
    """Raise HeterosegError where the labels of `out/last` mean something else by now."""
    last = out / "last"
    if not (last / "taxonomy.yaml").is_file():
        return
    free: Any = {"description": True, "taxonomy": True, "labels": {"__all__": {"color"}}}
    known = load_taxonomy("taxonomy.yaml", last, experiment.model.void)
    changed = [] if known.same_tree(tree) else [f"taxonomy {known.name!r}"]
    for space in [] if changed else spaces:
        begun = load_label_space(f"{space.name}.yaml", known, last / "label_spaces")
        if begun.file.model_dump(exclude=free) != space.file.model_dump(exclude=free):
            changed.append(f"label space {space.name!r}")
    if changed:
        told = f"this run began with another content of {', '.join(dict.fromkeys(changed))}"
        raise HeterosegError(f"{out}: {told}; restore it, or start a new run in another folder")


def has_state(out: Path) -> bool:
    return (out / STATE).exists() or (out / BEFORE).exists()


def clear(out: Path) -> None:
    """Remove what killed processes left unfinished in a RUN."""
    for path in [path for pattern in UNFINISHED for path in out.glob(pattern)]:
        rmtree(path) if path.is_dir() else path.unlink()


def write_state(out: Path, state: dict[str, Any]) -> None:
    """Write the state of a run and keep the one before it, in case that this one is damaged one day."""
    with written(out / STATE) as temporary:
        torch.save(state, temporary)
        if (out / STATE).exists():
            (out / STATE).replace(out / BEFORE)


def read_state(out: Path, device: torch.device, take: Callable[[dict[str, Any]], None]) -> str | None:
    """Give `take` the state of a run, or the one before where it is damaged or gone.

    Returns a sentence about that, empty where all is well, None where there is no state. States that cannot be read, or
    that `take` cannot use, raise HeterosegError.
    """
    faults: list[str] = []
    for file in (out / STATE, out / BEFORE):
        if not file.exists():
            faults.append(f"{file.name} is not there")
            continue
        try:
            take(_load(file, device))
        except HeterosegError:
            raise
        except Exception as error:
            if lacking(error):
                raise
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            faults.append(f"{file.name} is damaged or of another run ({reason:.160})")
            continue
        return f"{out}: {faults[0]}, so the run goes on from the state before it, {BEFORE}" if faults else ""
    if not has_state(out):
        return None
    told = "put one of them back from a copy, or start a new run in another folder; last/ and best/ are still MODELs"
    raise HeterosegError(f"{out}: cannot be resumed, {' and '.join(faults)}; {told}")


def _load(file: Path, device: torch.device) -> dict[str, Any]:
    with zipfile.ZipFile(file) as archive:
        if part := archive.testzip():  # torch does not look at the checksums
            raise ValueError(f"wrong checksum of {part}")
    return torch.load(file, map_location=device, weights_only=True)
