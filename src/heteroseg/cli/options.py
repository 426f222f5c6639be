"""Arguments that several commands share, and how they are checked."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from heteroseg.errors import HeterosegError

if TYPE_CHECKING:
    from heteroseg.experiment.config import Experiment
    from heteroseg.experiment.sources import Source


def fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, found {text!r}")
    return value


def count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, found {text!r}")
    return int(text)


SHARED: dict[str, dict] = {
    "model": {"metavar": "MODEL", "help": "MODEL or RUN folder, an exported file, or hf://owner/name"},
    "experiment": {"metavar": "EXPERIMENT", "help": "experiment YAML"},
    "--data": {"required": True, "metavar": "EXPERIMENT", "help": "experiment YAML that names the datasets"},
    "--dataset": {"required": True, "metavar": "NAME", "help": "which dataset of the experiment"},
    "--json": {"metavar": "FILE", "help": "write the figures there"},
    "--limit": {"type": count, "metavar": "N", "help": "use only the first N val images of each dataset"},
    "--images": {"type": count, "default": 9, "metavar": "N", "help": "pictures of each dataset: a third worst, a "
                 "third best, a third random, and up to N more for rare labels"},
    "--device": {"default": "cpu", "help": "where the network runs: cpu, cuda, cuda:1, mps (default: cpu)"},
    "overrides": {"nargs": "*", "default": [], "metavar": "key=value",
                  "help": "set a key of the experiment, as train.steps=100"},
}  # fmt: skip
"""The arguments that several commands have."""

Action = argparse._SubParsersAction


def add_group(commands: Action, name: str, does: str) -> Action:
    """Add a command that consists of several; `does` says what they do. Returns what takes them."""
    parser = commands.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")
    return parser.add_subparsers(dest="action", required=True, metavar="ACTION")


def add_command(
    commands: Action, name: str, run: Callable[[argparse.Namespace], int], does: str, *shared: str
) -> argparse.ArgumentParser:
    """Add a command; `does` says what it does, `run` returns its exit code, `shared` are some of SHARED."""
    parser = commands.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")
    parser.set_defaults(run=run)
    for argument in shared:
        parser.add_argument(argument, **SHARED[argument])
    return parser


def open_experiment(
    path: str, overrides: Sequence[str], splits: Sequence[str] = ("train", "val")
) -> tuple["Experiment", list["Source"]]:
    """Read an experiment file with overrides, and list the images of its datasets."""
    from heteroseg.experiment.config import load_experiment

    experiment, folder = load_experiment(path, overrides)
    from heteroseg.experiment.sources import open_sources

    return experiment, open_sources(experiment, folder, splits)


def log(text: str) -> None:
    """Print progress, apart from results."""
    print(text, file=sys.stderr)


def pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise HeterosegError(f"--option {text}: expected key=value")
    return key, value


def size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH such as 520x706, found {text!r}")
    return int(height), int(width)


def file_option(option: str, name: str | None) -> Path | None:
    if name and Path(name).is_dir():
        raise HeterosegError(f"{option} {name}: expected a file to write, found a folder; name a file in it")
    return Path(name) if name else None


def write_run_report(run: Path, out: Path, images: int = 9, data: Path | None = None) -> None:
    from heteroseg.report import report_run

    for note in report_run(run, out, images, data):
        print(f"heteroseg: {note}", file=sys.stderr)
    print(f"report: {out}")
