"""The one error that a user is meant to read, and warnings."""

import os
import re
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Real
from typing import Any

LONGEST = 80  # characters of a value that a message tells
TOO_LONG = re.compile(rf"(\S{{{LONGEST}}})\S{{400,}}")


class HeterosegError(Exception):
    """Bad input from the user. Each fault is one sentence: expected, found, where, what to do next.

    Of words of hundreds of characters, which no message needs, the first LONGEST are kept.
    """

    def __init__(self, *faults: str):
        faults = tuple(TOO_LONG.sub(r"\1...", fault) for fault in faults)
        super().__init__("\n".join(faults))
        self.faults = faults


class InputError(HeterosegError):
    """A fault of one input among many; the others can be done."""


def raise_faults(faults: Iterable[str], most: int = sys.maxsize) -> None:
    """Raise all faults as one HeterosegError, at most `most` of them and a count of the rest; none is fine."""
    told = list(faults)
    if len(told) > most:
        told = [*told[:most], f"... and {counted(len(told) - most, 'more such fault')}"]
    if told:
        raise HeterosegError(*told)


def warn(text: str) -> None:
    """Tell on stderr what looks wrong; `text` is one sentence."""
    print(f"warning: {text}", file=sys.stderr)


def counted(count: int, thing: str) -> str:
    """`1 image`, `2 images`, `2 boxes`."""
    return f"{count} {thing}{'' if count == 1 else 'es' if thing[-1] in 'sx' else 's'}"


def listed(names: Iterable[object], most: int) -> str:
    """The first names, and how many more there are: `a, b and 3 more`."""
    told = [str(name) for name in names]
    return ", ".join(told[:most]) + f" and {len(told) - most} more" * (len(told) > most)


def shortened(value: object) -> str:
    """A text, or what `repr` makes of other values, in at most LONGEST characters."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except ValueError:  # an int of thousands of digits
        return "a number of too many digits"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def nearest(name: str, known) -> str:
    """`; did you mean 'x'?` for the most similar known name, or an empty string."""
    alike = {str(k).casefold(): str(k) for k in known}
    match = get_close_matches(str(name)[:LONGEST].casefold(), alike, n=1, cutoff=0.6)
    return f"; did you mean {alike[match[0]]!r}?" if match else ""


def require_one_of(what: str, found: Any, known: Iterable[str]) -> None:
    """Raise HeterosegError where `found` is none of the `known` words."""
    if found not in (known := list(known)):
        raise HeterosegError(f"{what}: expected one of {', '.join(known)}, found {found!r:.80}{nearest(found, known)}")


def require_between(what: str, found: Any, low: float, high: float) -> None:
    """Raise HeterosegError where `found` is no number from `low` to `high`."""
    if not isinstance(found, Real) or isinstance(found, bool) or not low <= float(found) <= high:
        raise HeterosegError(f"{what}: expected a number from {low:g} to {high:g}, found {found!r:.80}")


def text_of(found: Any, what: str = "a path") -> str:
    """A text or path as text. Raise HeterosegError where `found` is none of these, or empty."""
    if not isinstance(found, str | os.PathLike) or not (text := os.fsdecode(found)):
        raise HeterosegError(f"expected {what}, found {found!r:.80}")
    return text


def require_count(what: str, found: Any) -> None:
    """Raise HeterosegError where `found` is neither a whole number from 1 nor None."""
    if found is not None and (not isinstance(found, int) or isinstance(found, bool) or found < 1):
        raise HeterosegError(f"{what}: expected a whole number from 1, found {found!r:.80}")


def missing_package(use: str, error: ImportError, extra: str) -> HeterosegError:
    """What is told where a package of an extra is not installed."""
    package = (error.name or str(error)).partition(".")[0]
    return HeterosegError(f"{use} needs the package {package}; pip install 'heteroseg[{extra}]'")


LACKING = {  # what libraries say, and what is told instead; the first that fits
    r"DataLoader worker.*(Bus error|shared memory)|shared memory object|unable to (mmap|write).*torch_": (
        "the memory that processes share (/dev/shm) is full; give a container more (docker run --shm-size=2g), or set "
        "train.workers=0"
    ),
    r"DataLoader worker.*(killed|exited)": (
        "a process that reads images was killed from outside, as systems do where memory runs out; lower train.workers "
        "(0 needs no such process)"
    ),
    r"DataLoader timed out": "no image was read for a long time; look at the disk of the data",
    r"No space left|os error (28|122|27)\b|quota exceeded|file too large|file write failed|inline_container.*pos ": (
        "the disk is full; make room"
    ),
    "MemoryError:|unable to allocate|out of memory|can't allocate|"
    r"cannot allocate|ALLOC_FAILED|bad_alloc|insufficient memory": (
        "there is not enough memory; let it do less at once (train.batch, train.crop, --limit) or free some"
    ),
}


def lacking(error: BaseException) -> str | None:
    """What the machine lacks and what helps, where that is what an error of whatever library means."""
    text = f"{type(error).__name__}: {error}"
    return next((told for pattern, told in LACKING.items() if re.search(pattern, text, re.I | re.S)), None)
