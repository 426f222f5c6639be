"""What stops a training from outside: one sentence that says what is safe and how to go on."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from heteroseg.errors import HeterosegError, lacking, warn
from heteroseg.writing import FULL_DISK


def what_is_safe(out: Path, saved: int | None) -> str:
    """`saved`: the step of the last state in the RUN folder `out`, None where there is none."""
    if saved is not None:
        return f"{out} is whole as of step {saved}; the same command with --resume goes on from there"
    if out.is_dir() and any(out.iterdir()):
        return f"nothing was trained yet; the same command with --resume begins anew in {out}"
    return "nothing was written yet; give the same command again"


@contextmanager
def told(out: Path, steps: Callable[[], tuple[int, int | None]]) -> Iterator[None]:
    """Tell signals, a full disk, too little memory and lost processes of a training by what is safe.

    `steps` gives this step and that of the last state. KeyboardInterrupt (also of other signals) stays one, all others
    become HeterosegError.
    """
    before, threading.excepthook = threading.excepthook, _thread_failed
    try:
        yield
    except KeyboardInterrupt:
        step, saved = steps()
        raise KeyboardInterrupt(f"stopped at step {step}; {what_is_safe(out, saved)}") from None
    except Exception as error:
        if not (reason := _reason(error)):
            raise
        step, saved = steps()
        raise HeterosegError(f"step {step}: {reason}; {what_is_safe(out, saved)}") from None
    finally:
        threading.excepthook = before


def _thread_failed(failed: threading.ExceptHookArgs) -> None:
    """TensorBoard writes in a thread of its own; a full disk ends that, and no training."""
    reason = failed.exc_value and lacking(failed.exc_value)
    if reason:
        warn(f"TensorBoard's curves are not written any more, {reason}")
    else:
        threading.__excepthook__(failed)


def _reason(error: Exception) -> str | None:
    if isinstance(error, HeterosegError):
        return str(error).replace(FULL_DISK, "the disk is full; make room") if FULL_DISK in str(error) else None
    return lacking(error)
