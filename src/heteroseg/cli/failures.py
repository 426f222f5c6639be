"""How a command ends that fails: what is told, and the exit code."""

import os
import re
import shlex
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from heteroseg import __version__
from heteroseg.errors import HeterosegError, lacking, shortened

MANY, SHOWN = 20, 3  # faults: of more than MANY the first SHOWN are told


def end(error: BaseException, command: Sequence[str], stopped: int = 0) -> int:
    """Tell what ended a command on stderr, and return its exit code; `stopped` is the signal that came, 0 for none.

    2: a mistake, or what this machine lacks; 1: what nobody foresaw; from 128: a signal, or nobody reads the output.
    """
    if isinstance(error, BrokenPipeError):  # whoever read our output, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    if isinstance(error, KeyboardInterrupt):
        _tell(str(error) or "stopped")
        return 128 + (stopped or signal.SIGINT)
    if isinstance(error, HeterosegError):
        for fault in error.faults if len(error.faults) <= MANY else error.faults[:SHOWN]:
            _tell(fault)
        if len(error.faults) > MANY:
            _tell(f"and {len(error.faults) - SHOWN} more faults, {len(error.faults)} in all; mend these first")
    elif reason := "stopped" if stopped else _outside(error):
        _tell(reason)
    else:
        _tell(_unforeseen(error, command))
        return 1
    return 128 + stopped if stopped else 2


def told(line: str) -> None:
    """One line on stderr; control characters, which names may hold, are written out."""
    print(re.sub(r"[\0-\x1f\x7f]", lambda sign: repr(sign[0])[1:-1], line), file=sys.stderr)


def _tell(text: str) -> None:
    told(f"heteroseg: {text}")


def _outside(error: BaseException) -> str | None:
    """A sentence for what comes from outside of the program: no memory, a full disk, no right to write."""
    reason = lacking(error) or (error.strerror if isinstance(error, OSError) else None)
    if reason and isinstance(error, OSError) and error.filename is not None:
        return f"{shortened(os.fsdecode(error.filename))}: cannot be used, {reason}"
    return reason and f"{reason} (found in {_place(error)})"


def _place(error: BaseException) -> str:
    """The last function of heteroseg that an error went through."""
    ours = Path(__file__).parents[1]
    frames = [f for f in traceback.extract_tb(error.__traceback__) if ours in Path(f.filename).parents]
    return f"{Path(frames[-1].filename).stem}.{frames[-1].name}" if frames else "heteroseg"


def _unforeseen(error: BaseException, command: Sequence[str]) -> str:
    words = shlex.join(["heteroseg", *command])
    text = f"heteroseg {__version__}, Python {sys.version}\n{words}\n\n{''.join(traceback.format_exception(error))}"
    try:
        handle, where = tempfile.mkstemp(".txt", "heteroseg-")
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        where = "this text"
        print(text, file=sys.stderr)
    told = f"`{shortened(words)}` ended in {_place(error)} with {type(error).__name__}"
    return f"this is a fault of heteroseg, not of yours: {told}; report it with {where}, which tells all"
