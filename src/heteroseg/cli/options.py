"""Arguments that several commands share, and how they are checked."""

import argparse
import sys
from pathlib import Path

from heteroseg.errors import HeterosegError


def add_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="key=value", help="set a key of the experiment, as train.steps=100"
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", help="where the network runs: cpu, cuda, cuda:1, mps (default: cpu)")


def add_back_off(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--back-off", type=fraction, metavar="P", help=what)


def fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, found {text!r}")
    return value


def pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise HeterosegError(f"--option {text}: expected key=value")
    return key, value


def add_images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--images", type=count, default=9, metavar="N",
        help="pictures of each dataset: a third worst, a third best, a third random, and up to N more for rare labels",
    )  # fmt: skip


def count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, found {text!r}")
    return int(text)


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
