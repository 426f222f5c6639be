"""Writing: files that are never half there, and that never take the place of what a user made.

A file is written under a temporary name (`part_of`), which is always the same for it, and then renamed. What a killed
run leaves behind, the next start writes anew; whoever lists files passes over names that begin with PART.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path, PurePath
from typing import Any

from heteroseg.errors import HeterosegError, text_of, warn

PART = ".part-"
AT_WORK = f"{PART}at-work.json"
"""In a folder that a command has begun and not finished: what is done there."""
SIGNED, RECORD = "user.heteroseg", ".heteroseg-wrote"
"""Where the digest of a file is kept that is written again and again, to tell it from files of others and changed ones:
an attribute of the file, or where there are none a file beside it."""
LONGEST = 200  # bytes of a name: file systems take 255
FULL_DISK = "the disk is full; what was written before is whole, so make room and give the same command again"
UNFINISHED: set[Path] = set()
"""Temporary files that this process is writing."""
HELD: set[int] = set()
"""Open files and folders that this process holds."""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def home_expanded(path: Path | str) -> Path:
    """A path in which a leading ~ is the user's folder. The folder of an unknown user raises HeterosegError."""
    expanded = os.path.expanduser(text_of(path))
    if expanded.startswith("~") or "\0" in expanded:
        told = "expected a path, found a user's folder that this machine does not know, or a sign that no path has"
        raise HeterosegError(f"{str(path)!r}: {told}; a name that begins so is written ./~NAME")
    return Path(expanded)


def part_of(path: Path, ending: str = ".tmp") -> Path:
    """The temporary name of a file. It has another ending, so that patterns such as *.png do not meet it."""
    name = path.name
    if len(os.fsencode(name)) > LONGEST:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return path.with_name(f"{PART}{name}{ending}")


def is_part(path: PurePath | str) -> bool:
    return PurePath(path).name.startswith(PART)


def is_free(path: Path) -> bool:
    """Whether nothing stands at `path`, not even a link to nothing."""
    return not os.path.lexists(path)


def is_newer(path: Path, *sources: Path | None) -> bool:
    """Whether a file is there and was written after all `sources`."""
    return path.is_file() and all(path.stat().st_mtime_ns >= p.stat().st_mtime_ns for p in sources if p)


def _reason(error: OSError) -> str:
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "a file stands where a folder is due"
    if error.errno in FULL:
        return FULL_DISK
    return error.strerror or str(error)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HeterosegError(f"{path}: cannot be written, {_reason(error)}") from None


def _place(path: Path | str) -> Path:
    """Where a file goes: a link stays, and what it leads to is written. No plain file raises HeterosegError."""
    path = Path(os.path.realpath(path))
    with _told(path):
        try:
            kind = path.stat().st_mode
        except FileNotFoundError:
            return path
    if stat.S_ISDIR(kind):
        raise HeterosegError(f"{path}: expected a file to write, found a folder; choose another name")
    if not stat.S_ISREG(kind):
        raise HeterosegError(f"{path}: expected a file to write, found a device or a pipe; choose another name")
    return path


def _close(handle: int) -> None:
    if handle in HELD:  # in a fork it is not
        HELD.discard(handle)
        os.close(handle)


def _let_go() -> None:
    while HELD:
        os.close(HELD.pop())


os.register_at_fork(after_in_child=_let_go)


def _hold(path: Path, flags: int, told: str, wait: bool = False) -> int:
    """Open a file or a folder and hold it until it is closed; a killed process and a fork of this one hold nothing."""
    handle = os.open(path, flags, 0o666)  # less the umask
    HELD.add(handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        _close(handle)
        raise HeterosegError(f"{path}: another process is {told}; wait until it has ended") from None
    except OSError:
        pass  # a file system without locks
    return handle


def _create(part: Path) -> int:
    while True:
        handle = _hold(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, "writing this file")
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), part.stat()):
                os.ftruncate(handle, 0)
                return handle
        _close(handle)  # the other process has just renamed it


def _is_full(part: Path) -> bool:
    """Whether the disk of a file that could not be written takes no more; libraries say it in many ways."""
    try:
        with part.open("ab") as file:
            file.write(bytes(2**20))
    except OSError as error:
        return error.errno in FULL
    return False


@contextmanager
def written(path: Path | str, ending: str = ".tmp") -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends well and removed when it fails.

    `ending` is that of the temporary name, for libraries that go by it. A full disk raises HeterosegError.
    """
    path = _place(path)
    part = part_of(path, ending)
    UNFINISHED.add(part)
    try:
        with _told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = _create(part)
    except HeterosegError:
        UNFINISHED.discard(part)  # it may be another's
        raise
    try:
        yield part
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
        if stat.S_IMODE(part.stat().st_mode) != mode:
            part.chmod(mode)  # a library made a file of its own
        part.replace(path)
    except HeterosegError:
        part.unlink(missing_ok=True)
        raise
    except BaseException as error:
        full = isinstance(error, Exception) and (getattr(error, "errno", None) in FULL or _is_full(part))
        part.unlink(missing_ok=True)
        if full:
            raise HeterosegError(f"{path}: cannot be written, {FULL_DISK}") from None
        raise
    finally:
        _close(handle)
        UNFINISHED.discard(part)


def remove_unfinished() -> None:
    """Remove what an interrupt left between the making of a file and the block that would clean up."""
    while UNFINISHED:
        UNFINISHED.pop().unlink(missing_ok=True)


@contextmanager
def alone(folder: Path, wait: bool = False) -> Iterator[None]:
    """Make a folder and hold it. Where another process does, wait for its end, or raise HeterosegError.

    A folder that is empty in the end, and was not there before, goes.
    """
    new = is_free(folder)
    with _told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = _hold(folder, os.O_RDONLY, "at work in this folder", wait)
    try:
        yield
    finally:
        _close(handle)
        if new:
            with suppress(OSError):
                folder.rmdir()


def write_bytes(path: Path | str, data: bytes) -> None:
    with written(path) as part:
        part.write_bytes(data)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _entry(path: Path, digest: str) -> bytes:
    return json.dumps([path.name, digest]).encode() + b"\n"


def _sign(part: Path, path: Path) -> None:
    """Note what is written before it has its name, so that it is known also after a kill."""
    digest = _digest(part)
    try:
        os.setxattr(part, SIGNED, digest.encode())
    except (OSError, AttributeError):  # this disk, or this system, has no attributes
        record = os.open(path.with_name(RECORD), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
        try:
            os.write(record, _entry(path, digest))
        finally:
            os.close(record)


def _is_signed(path: Path) -> bool:
    digest, record = _digest(path), path.with_name(RECORD)
    with suppress(OSError, AttributeError):
        return os.getxattr(path, SIGNED) == digest.encode()
    return record.is_file() and _entry(path, digest) in record.read_bytes().splitlines(keepends=True)


def require_own(path: Path | str) -> None:
    """Raise HeterosegError where a file stands that heteroseg did not write, or that was changed since."""
    path = _place(path)
    if path.exists() and path.stat().st_size and not _is_signed(path):
        told = "stands there and is not, or not any more, what heteroseg wrote"
        raise HeterosegError(f"{path}: {told}; choose another name, or take it away")


def put_aside(path: Path) -> None:
    """Give a file another name that is not, or not any more, what heteroseg wrote, and tell it.

    So a folder of ours goes on, and nothing is lost. A copied folder may have lost the signatures, and an older
    heteroseg wrote none.
    """
    if path.is_file() and path.stat().st_size and not _is_signed(path):
        names = (path.with_name(f"{path.stem}.before-{n}{path.suffix}") for n in count(1))
        kept = next(name for name in names if is_free(name))
        path.rename(kept)
        warn(f"{path}: is not what heteroseg wrote, or was changed since; it is kept as {kept.name}")


@contextmanager
def rewritten(path: Path | str, ending: str = ".tmp") -> Iterator[Path]:
    """As `written`, but what stands there is only replaced if it is still as heteroseg wrote it."""
    require_own(path)
    with written(path, ending) as part:
        yield part
        _sign(part, _place(path))


def rewrite(path: Path | str, text: str) -> None:
    with rewritten(path) as part:
        part.write_text(text, encoding="utf-8")


def require_empty(folder: Path, hint: str = "choose another --out") -> None:
    """Raise HeterosegError if `folder` is a file or has something in it; `hint` tells the user what to do then.

    Temporary files of a killed run are nothing.
    """
    require_folder(folder, hint, "a new or empty folder")
    if folder.exists() and any(not is_part(name) for name in folder.iterdir()):
        raise HeterosegError(f"{folder}: expected a new or empty folder, found something in it; {hint}")


def require_absent(path: Path, hint: str = "choose another --out") -> None:
    """Raise HeterosegError if `path` is there; `hint` tells the user what to do then."""
    if not is_free(path):
        raise HeterosegError(f"{path}: stands there already; {hint}, or take it away")


def require_folder(folder: Path, hint: str = "choose another --out", kind: str = "a folder") -> None:
    """Raise HeterosegError where no folder can be, or none that may be written."""
    there = next(p for p in (folder, *folder.absolute().parents) if not is_free(p))
    with _told(folder):
        if not stat.S_ISDIR(there.stat().st_mode):
            what = "a file" if there == folder else f"the file {there}"
            raise HeterosegError(f"{folder}: expected {kind}, found {what}; {hint}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise HeterosegError(f"{folder}: cannot be written, {there} gives no right to; {hint}")


@contextmanager
def filling(folder: Path, job: Mapping[str, Any], names: Sequence[str] | None = None) -> Iterator[None]:
    """A new folder, or the `names` in a folder, while a command fills it.

    `job` (for JSON) is all that decides what is written. A killed command goes on where its `job` is the same: what is
    there is whole, and may be kept or written again. Other folders that are not empty raise HeterosegError.
    """
    marker = folder / AT_WORK
    require_folder(folder, kind="a folder" if names else "a new or empty folder")
    with alone(folder):
        _begin(marker, job, names)
        try:
            yield
            marker.unlink()
        except BaseException:
            if [*folder.iterdir()] == [marker]:  # nothing is begun
                marker.unlink()
            raise


def _begin(marker: Path, job: Mapping[str, Any], names: Sequence[str] | None) -> None:
    """Note what is begun in a folder, or make sure that it is the same as what was begun there."""
    folder = marker.parent
    if is_free(marker):
        if names is None:
            require_empty(folder)
        for name in names or ():
            require_absent(folder / name)
        write_bytes(marker, json.dumps(job, indent=2).encode())
        return
    try:
        before = json.loads(marker.read_bytes())
    except (OSError, ValueError):
        before = None
    if before != json.loads(json.dumps(job)):
        told = "holds what a stopped command began, with other inputs or options than now"
        raise HeterosegError(f"{folder}: {told}; choose another --out, or remove it ({marker.name} tells more)")


def require_apart(folder: Path, names: Iterable[str]) -> None:
    """Raise HeterosegError for two names below `folder` that its disk takes for one, by case or form of Unicode."""
    alike: dict[str, str] = {}
    for name in names:
        first = alike.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if first != name and _are_one(folder, first, name):
            told = f"would be one file on the disk of {folder}; rename one, or choose another --out"
            raise HeterosegError(f"{first} and {name}: {told}")


def _are_one(folder: Path, first: str, second: str) -> bool:
    above = next(p for p in (folder, *folder.absolute().parents) if p.is_dir())
    trial = above / f"{PART}names"
    shutil.rmtree(trial, ignore_errors=True)  # of a killed run
    try:
        with _told(folder):
            (trial / first).mkdir(parents=True)
        return (trial / second).exists()
    finally:
        shutil.rmtree(trial, ignore_errors=True)
