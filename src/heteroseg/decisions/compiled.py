"""How the loops are compiled; the result is kept on disk for the next process, where that works."""

import hashlib
import os
import pickle
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from numba import __version__, config, njit
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile, InTreeCacheLocator
from numba.core.serialize import dumps

from heteroseg.errors import warn

F = TypeVar("F")


@cache
def _tell(folder: str) -> None:
    told = "the compiled loops cannot be read or kept there, so they are compiled again, which takes some seconds"
    warn(f"{folder}: {told}; NUMBA_CACHE_DIR names another folder")


@cache
def _sources() -> str:
    """What changes with any file of the loops: one is compiled into another."""
    texts = (path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    return hashlib.sha256(b"".join(texts)).hexdigest()


class _Beside(InTreeCacheLocator):
    """Beside the loops, although nothing can be written there."""

    def ensure_cache_path(self) -> None:
        pass


class _Temporary(InTreeCacheLocator):
    """Where temporary files are, in a folder that no other user may write: what is loaded from it is run."""

    def get_cache_path(self) -> str:
        folder = f"heteroseg-{os.getuid()}"
        return os.path.join(tempfile.gettempdir(), folder, self.get_suitable_cache_subpath(self._py_file))

    def ensure_cache_path(self) -> None:
        folder = Path(self.get_cache_path()).parent
        folder.mkdir(0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o77 or found.st_uid != os.getuid():
            raise OSError("somebody else's")
        super().ensure_cache_path()


class _Whole(CompileResultCacheImpl):
    """Compiled code with its digest: a changed bit would run, and do anything."""

    _locator_classes = (*CompileResultCacheImpl._locator_classes, _Temporary, _Beside)

    def reduce(self, data: Any) -> tuple[str, bytes]:
        packed = dumps(super().reduce(data))
        return hashlib.sha256(packed).hexdigest(), packed

    def rebuild(self, target_context: Any, reduced_data: tuple[str, bytes]) -> Any:
        digest, packed = reduced_data
        if hashlib.sha256(packed).hexdigest() != digest:
            raise ValueError("damaged")
        return super().rebuild(target_context, pickle.loads(packed))


class _WholeBeside(_Whole):
    _locator_classes = (_Beside,)


def _digest(key: tuple[Any, ...]) -> str:
    return hashlib.sha256(repr(key).encode()).hexdigest()


class _ByKey(IndexDataCacheFile):
    """A file for each type of arguments and processor, with its whole key in it. Numba numbers them, and an index tells
    the numbers: of two processes that compile at once both may take one."""

    def _named(self, key: tuple[Any, ...]) -> str:
        return str(self._data_name(int(_digest(key[:2])[:12], 16)))

    def save(self, key: tuple[Any, ...], data: Any) -> None:
        self._save_data(self._named(key), (_digest(key), data))

    def load(self, key: tuple[Any, ...]) -> Any:
        try:
            found, data = self._load_data(self._named(key))
        except FileNotFoundError:
            return None
        return data if found == _digest(key) else None


class _Ahead(FunctionCache):
    """What somebody compiled who may write beside the loops, such as the maker of a container."""

    _impl_class = _WholeBeside

    def __init__(self, function: Any):
        super().__init__(function)
        self._cache_file = _ByKey(self.cache_path, self._impl.filename_base, None)

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        return (*super()._index_key(sig, codegen), __version__, _sources())


class _Kept(_Ahead):
    """Numba's cache, without which all goes on: what cannot be read or written is told once."""

    _impl_class = _Whole

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            found = super().load_overload(sig, target_context)
        except Exception:  # a damaged pickle may end in any
            _tell(self.cache_path)
            return None  # a whole one takes its place
        if found is None and not config.CACHE_DIR:
            with suppress(Exception):
                found = _Ahead(self._py_func).load_overload(sig, target_context)
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception:
            _tell(self.cache_path)


def kernel(**options: Any) -> Callable[[F], F]:
    """Compile a function with `numba.njit` and these options.

    Callers allocate, so it goes without numba's reference counts: to count the arrays of `walk`, `grid` and work spaces
    took a third of the time of all loops. It must return no array.
    """

    def compiled(function: Any) -> Any:
        dispatcher = njit(nogil=True, _nrt=False, **options)(function)
        dispatcher._cache = _Kept(function)
        return dispatcher

    return compiled
