"""How the loops are compiled; the result is kept on disk for the next process, where that works."""

import hashlib
import pickle
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from numba import njit
from numba.core.caching import CompileResultCacheImpl, FunctionCache
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


class _Whole(CompileResultCacheImpl):
    """Compiled code with its digest: a changed bit would run, and do anything."""

    def reduce(self, data: Any) -> tuple[str, bytes]:
        packed = dumps(super().reduce(data))
        return hashlib.sha256(packed).hexdigest(), packed

    def rebuild(self, target_context: Any, reduced_data: tuple[str, bytes]) -> Any:
        digest, packed = reduced_data
        if hashlib.sha256(packed).hexdigest() != digest:
            raise ValueError("damaged")
        return super().rebuild(target_context, pickle.loads(packed))


class _Kept(FunctionCache):
    """Numba's cache, without which all goes on: what cannot be read or written is told once."""

    _impl_class = _Whole

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a damaged pickle may end in any
            _tell(self.cache_path)
            with suppress(OSError):
                self.flush()  # so that a whole one takes its place
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception:
            _tell(self.cache_path)

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        return (*super()._index_key(sig, codegen), _sources())


def kernel(**options: Any) -> Callable[[F], F]:
    """Compile a function with `numba.njit` and these options.

    Callers allocate, so it goes without numba's reference counts: to count the arrays of `walk`, `grid` and work spaces
    took a third of the time of all loops. It must return no array.
    """

    def compiled(function: Any) -> Any:
        dispatcher = njit(nogil=True, _nrt=False, **options)(function)
        try:
            dispatcher._cache = _Kept(function)
        except RuntimeError:  # no folder that can be written
            _tell("numba's cache")
        return dispatcher

    return compiled
