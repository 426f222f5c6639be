"""The command line. Bad use exits with 2 and one sentence for each fault, never a traceback."""

import argparse
import io
import os
import re
import sys
from typing import NoReturn

from heteroseg import __version__
from heteroseg.cli import labels, scoring, training, using
from heteroseg.cli.failures import end, told
from heteroseg.cli.options import words
from heteroseg.cli.signals import stoppable
from heteroseg.errors import LONGEST
from heteroseg.writing import remove_unfinished


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        message = re.sub(rf"(\S{{{LONGEST}}})\S+", r"\1...", message).replace("\n", " ")
        told(f"{self.prog}: {message}; see {self.prog} --help")
        self.exit(2)


def build_parser() -> argparse.ArgumentParser:
    parser = Parser("heteroseg", description="One segmentation network trained on many datasets with different labels.")
    parser.add_argument("--version", action="version", version=f"heteroseg {__version__}")
    parser.set_defaults(run=lambda _: parser.print_help())
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for part in (training, scoring, using, labels):
        part.add(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    for name, level in {"OPENCV_LOG_LEVEL": "ERROR", "OPENCV_FFMPEG_LOGLEVEL": "-8"}.items():
        os.environ.setdefault(name, level)  # what they warn of is told in our own words
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in `heteroseg`, before modules with torch come
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files hold all kinds of bytes
    parser = build_parser()
    args, extra = parser.parse_known_args(words(parser, argv))
    if hasattr(args, "overrides") and all("=" in e and not e.startswith("-") for e in extra):
        args.overrides = [*args.overrides, *extra]  # argparse does not find them behind an option
    elif extra:
        parser.error(f"unknown argument {extra[0]!r}")
    with stoppable(to_the_end=argv is None) as stopped:
        try:
            args.run(args)
            sys.stdout.flush()
            stopped.is_over = True
            return 0
        except (Exception, KeyboardInterrupt) as error:
            stopped.is_over = True
            return end(error, sys.argv[1:] if argv is None else argv, stopped.number)
        finally:
            remove_unfinished()
