"""Arguments that several commands share, and how they are checked."""

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import heteroseg
from heteroseg.errors import HeterosegError, warn
from heteroseg.writing import home_expanded, require_folder, require_own

if TYPE_CHECKING:
    from heteroseg.experiment.sources import Source

T = TypeVar("T")
Action = argparse._SubParsersAction


def number(kind: Callable[[str], float], low: float, high: float, expected: str) -> Callable[[str], float]:
    """What reads numbers from `low` to `high` for argparse."""

    def read(text: str) -> float:
        with suppress(ValueError):
            if low <= (value := kind(text)) <= high:
                return value
        raise argparse.ArgumentTypeError(f"expected {expected}, found {text!r}")

    return read


fraction = number(float, 0, 1, "a number from 0 to 1")
count = number(int, 1, 2**31 - 1, "a whole number from 1")
several = number(int, 1, 1024, "a whole number from 1 to 1024")
SIDE = 2**14  # of an image


def words(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> list[str]:
    """The words of the command line, with ~ expanded where no shell did it (--out=~/out)."""
    out = []
    for word in sys.argv[1:] if argv is None else argv:
        name, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        if not value and (equals or not name):
            parser.error("expected a value, found an empty one; a variable of the shell may be empty")
        if value == "-":
            parser.error("expected a path, found '-'; no stream is read or written, and a file of this name is ./-")
        try:
            out.append(name + equals + (str(home_expanded(value)) if value[:1] == "~" or "\0" in value else value))
        except HeterosegError as error:
            parser.error(str(error))
    return out


def pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"expected key=value, found {text!r}")
    return key, value


def height_width(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal() and 0 < int(height) <= SIDE and 0 < int(width) <= SIDE):
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH such as 520x706, each to {SIDE}, found {text!r}")
    return int(height), int(width)


def new_file(text: str) -> Path:
    """A file that may be written: new, or as heteroseg wrote it."""
    return _checked(Path(text), require_own)


def new_folder(text: str) -> Path:
    return _checked(Path(text), require_folder)


def views(text: str) -> str:
    """What --tta takes."""
    from heteroseg.model.views import views_of

    return _checked(text, views_of)


def _checked(value: T, check: Callable[[T], object]) -> T:
    try:
        check(value)
    except HeterosegError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return value


PICTURES = "pictures of each dataset: a third worst, a third best, a third random, and up to N more for rare labels"
SHARED: dict[str, tuple[str, str, Callable[[str], Any], dict[str, Any]]] = {
    "model": ("MODEL", "MODEL or RUN folder, an exported file, or hf://owner/name", str, {}),
    "experiment": ("EXPERIMENT", "experiment YAML", str, {}),
    "--data": ("EXPERIMENT", "experiment YAML that names the datasets", str, {"required": True}),
    "--dataset": ("NAME", "which dataset of the experiment", str, {"required": True}),
    "--json": ("FILE", "write the figures there", new_file, {}),
    "--limit": ("N", "use only the first N val images of each dataset", count, {}),
    "--images": ("N", PICTURES, count, {"default": 9}),
    "--labels": ("SPACE", "a label space of the model, or a YAML file (default: leaves)", str, {}),
    "--id": ("COLUMN", "column or field with the ids, such as trainId (default: id)", str, {}),
    "--table": ("NAME", "which list of a JSON file that holds several", str, {}),
    "--device": ("DEVICE", "where the network runs: cpu, cuda, cuda:1, mps (default: cpu)", str, {"default": "cpu"}),
    "--tta": (
        "VIEWS",
        "average the image in several scales, and mirrored: 0.75,1,1.25,flip (without VIEWS: 0.75,1,1.25)",
        views,
        {"nargs": "?", "const": True},
    ),
    "overrides": ("key=value", "set a key of the experiment, as train.steps=100", str, {"nargs": "*", "default": []}),
}
"""The arguments that several commands have: metavar, help, what reads the value, and more for `add_argument`."""


def add_group(commands: Action, name: str, does: str) -> Action:
    """Add a command that consists of several; `does` says what they do. Returns what takes them."""
    parser = commands.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")
    return parser.add_subparsers(dest="action", required=True, metavar="ACTION")


def add_command(
    commands: Action, name: str, run: Callable[[argparse.Namespace], None], does: str, *shared: str
) -> argparse.ArgumentParser:
    """Add a command; `does` says what it does, `run` does it, `shared` are some of SHARED."""
    parser = commands.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")
    parser.set_defaults(run=run)
    for argument in shared:
        metavar, text, kind, more = SHARED[argument]
        option(parser, argument, metavar, text, kind, **more)
    return parser


def option(
    p: argparse._ActionsContainer, name: str, metavar: str, does: str, kind: Callable[[str], Any] = str, **more: Any
) -> None:
    """Add an option or a word that takes a value; `kind` reads it, `more` is as for `add_argument`."""
    p.add_argument(name, metavar=metavar, help=does, type=kind, **more)


def allow_overlap(p: argparse.ArgumentParser) -> None:
    p.add_argument("--allow-overlap", action="store_true", help="val images may be train images too: only warn of it")


def open_experiment(
    path: str, overrides: Sequence[str], splits: Sequence[str] = ("train", "val"), skipped: Path | None = None
) -> tuple["heteroseg.Experiment", list["Source"]]:
    """Read an experiment file with overrides, list the images of its datasets, and warn of what looks wrong there.

    The file `skipped` gets what the option skip_faulty left out.
    """
    experiment, folder = heteroseg.load_experiment(path, overrides)
    from heteroseg.experiment.sources import open_sources, write_skipped

    sources = open_sources(experiment, folder, splits)
    for source in sources:
        for note in source.notes:
            warn(note)
    if skipped:
        write_skipped(sources, skipped)
    return experiment, sources


def with_views(args: argparse.Namespace, name: str = "") -> "heteroseg.Model":
    """A MODEL of a command, by `name` where it has several, which answers as --tta says; if it cannot, that is told."""
    from heteroseg.model.views import require_taken, views_of

    model = heteroseg.load(name or args.model, args.device)
    require_taken(model.network, views_of(args.tta))
    model.tta = args.tta
    return model


def log(text: str) -> None:
    """Print progress, apart from results."""
    print(text, file=sys.stderr)


def tell(template: str, figures: dict[str, Any], file: Path | None) -> None:
    """Print figures as the table that `template` makes of them, and write them to a JSON file where one is wanted."""
    from heteroseg.files import fill_template, json_text
    from heteroseg.writing import rewrite

    print(fill_template(template, figures))
    if file:
        rewrite(file, json_text(figures))
