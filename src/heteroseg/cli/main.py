"""The command line. Bad use exits with 2 and one sentence for each fault, never a traceback."""

import argparse
import io
import os
import signal
import sys
from typing import NoReturn

from heteroseg import __version__
from heteroseg.cli import labels, scoring, training, using
from heteroseg.cli.signals import stoppable
from heteroseg.errors import HeterosegError, lacking


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = Parser("heteroseg", description="One segmentation network trained on many datasets with different labels.")
    parser.add_argument("--version", action="version", version=f"heteroseg {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for part in (labels, training, scoring, using):
        part.add(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Entry point: returns the exit code."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")  # what it warns of is told in our own words
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files hold all kinds of bytes
    parser = build_parser()
    args, extra = parser.parse_known_args(argv)
    if hasattr(args, "overrides") and all("=" in e and not e.startswith("-") for e in extra):
        args.overrides = [*args.overrides, *extra]  # argparse does not find them behind an option
    elif extra:
        parser.error(f"unknown argument {extra[0]!r}")
    with stoppable() as stopped:
        try:
            args.run(args)
            sys.stdout.flush()
            return 0
        except HeterosegError as error:
            for fault in error.faults:
                print(f"heteroseg: {fault}", file=sys.stderr)
        except KeyboardInterrupt as stop:
            print(f"heteroseg: {str(stop) or 'stopped'}", file=sys.stderr)
            return 128 + (stopped.number or signal.SIGINT)
        except BrokenPipeError:  # whoever read our output, such as `head`, has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except Exception as error:
            if not (reason := "stopped" if stopped.number else _outside(error)):
                raise
            print(f"heteroseg: {reason}", file=sys.stderr)
        return 128 + stopped.number if stopped.number else 2


def _outside(error: Exception) -> str:
    """What an error tells that comes from outside of the program: a full disk, no memory, no right to write."""
    place = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
    reason = lacking(error) or (isinstance(error, OSError) and (error.strerror or str(error).partition("\n")[0]))
    return f"{place}{reason}" if reason else ""
