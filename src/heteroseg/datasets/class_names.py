"""Class names to ids, for annotation files that hold names."""

from collections.abc import Iterable
from pathlib import Path

from heteroseg.datasets.boxes import integer
from heteroseg.datasets.paths import absent, unique
from heteroseg.errors import HeterosegError, nearest
from heteroseg.files import read_text


def whole(value: str | None, option: str, default: int) -> int:
    """An option that is an id, as text; anything but a whole number from 0 raises HeterosegError."""
    if value is None:
        return default
    found = integer(value)
    if found is None:
        raise HeterosegError(f"{option}: expected an id, a whole number from 0, found {value!r}; correct the option")
    return found


class Classes:
    """Ids of names: the position in a list, counted from 0; a name that is not in the list has the id `others`."""

    def __init__(self, names: Iterable[str], others: str | None = None):
        self.ids = {name: i for i, name in enumerate(names)}
        self.others = None if others is None else whole(others, "others", 0)

    @classmethod
    def of(cls, root: Path, file: str | None, others: str | None, listed: Iterable[str] | None = None) -> "Classes":
        """From `root/file`, a name a line; without a file from `listed`, the order in which the annotation lists them.

        A missing file, a name that stands twice, and neither of the two without `others` raise HeterosegError.
        """
        if file is None:
            if listed is None and others is None:
                raise HeterosegError(
                    "classes: expected a text file with the name of a class a line (the first has id 0), found none; "
                    "write one beside the data and name it"
                )
            return cls(listed or (), others)
        path = root / file
        if not path.is_file():
            absent(path, "list of classes", "write the name of a class a line, the first has id 0")
        lines = [(f"{path}:{n}", line.strip()) for n, line in enumerate(read_text(path).splitlines(), 1)]
        while lines and not lines[-1][1]:
            lines.pop()
        unique(lines, "class")
        return cls([name for _, name in lines], others)

    def find(self, name: str) -> int | None:
        """The id of a name, None where it has none."""
        return self.ids.get(name, self.others)

    def unknown(self, name: str) -> str:
        """What is wrong with a name that has no id."""
        return f"expected a class of the list, found {name!r}{nearest(name, self.ids)}; add it, or set `others`"
