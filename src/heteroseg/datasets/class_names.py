"""Class names to ids, for annotation files that hold names."""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from heteroseg.datasets.boxes import Row
from heteroseg.datasets.paths import require_file, unique
from heteroseg.datasets.records import integer
from heteroseg.datasets.sample import Listing
from heteroseg.errors import HeterosegError, nearest
from heteroseg.files import read_text


def parse_id(value: str | None, option: str) -> int:
    """An option that is an id, as text; -1 for None. Anything but a whole number from 0 raises HeterosegError."""
    parsed = -1 if value is None else integer(value)
    if parsed is None:
        raise HeterosegError(f"{option}: expected an id, a whole number from 0, found {value!r}; correct the option")
    return parsed


def plain(name: str) -> str:
    """A name without what people write in different ways: case, spaces and signs, forms of Unicode."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name).casefold()) or name


class ClassNames:
    """Ids of names: the position in a list, counted from 0; a name that is not in the list has the id `others`.

    The list is in `root/file`, a name a line; without a file it is `listed`, as the annotation lists them. A missing
    file, a name that stands twice, and neither of the two without `others` raise HeterosegError.
    """

    def __init__(self, root: Path, file: str | None, others: str | None, listed: Iterable[str] | None = None):
        self.others = None if others is None else parse_id(others, "others")
        if file is not None:
            path = require_file(root / file, "list of classes", "write the name of a class a line, the first has id 0")
            listed = [line.strip() for line in read_text(path).rstrip().splitlines()]
            unique(((f"{path}:{n}", name) for n, name in enumerate(listed, 1)), "class")
        elif listed is None and others is None:
            told = "expected a text file with the name of a class a line (the first has id 0), found none"
            raise HeterosegError(f"classes: {told}; write one beside the data and name it")
        self.ids = {name: i for i, name in enumerate(listed or ())}
        self.alike = {plain(name): name for name in self.ids}
        self.near_misses: dict[str, str] = {}  # names that became `others`, and the class that each is nearly

    def find(self, name: str) -> int | None:
        """The id of a name, None where it has none."""
        if name not in self.ids and self.others is not None and plain(name) in self.alike:
            self.near_misses[name] = self.alike[plain(name)]
        return self.ids.get(name, self.others)

    def told(self, listing: Listing) -> Listing:
        """The listing with what these names tell: what ids are called, and names that nearly are a class."""
        told = "is no class but counts as `others`; the class is"
        misses = [f"{name!r} {told} {meant!r}" for name, meant in self.near_misses.items()]
        return listing.then(Listing(listing, {i: name for name, i in self.ids.items()}, notes=misses))

    def labelled(self, row: Row, name: Any) -> Row:
        """The row with the id of a name, or with the fault that the name has none or is no name."""
        if not isinstance(name, str) or not name.strip():
            return row._replace(fault=f"expected the name of a class, found {name!r:.60}")
        label = self.find(name)
        if label is None:
            fault = f"expected a class of the list, found {name!r}{nearest(name, self.ids)}; add it, or set `others`"
            return row._replace(fault=fault)
        return row._replace(label=label)
