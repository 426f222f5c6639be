"""The one error that a user is meant to read, and warnings."""

import sys
from difflib import get_close_matches


class HeterosegError(Exception):
    """Bad input from the user. Each fault is one sentence: expected, found, where, what to do next."""

    def __init__(self, *faults: str):
        super().__init__("\n".join(faults))
        self.faults = faults


class InputError(HeterosegError):
    """A fault of one input among many; the others can be done."""


def warn(text: str) -> None:
    """Tell on stderr what looks wrong; `text` is one sentence."""
    print(f"warning: {text}", file=sys.stderr)


def nearest(name: str, known) -> str:
    """`; did you mean 'x'?` for the most similar known name, or an empty string."""
    alike = {str(k).casefold(): str(k) for k in known}
    match = get_close_matches(str(name).casefold(), alike, n=1, cutoff=0.6)
    return f"; did you mean {alike[match[0]]!r}?" if match else ""
