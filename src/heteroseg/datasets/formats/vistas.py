"""Mapillary Vistas: SPLIT/images/NAME.jpg and SPLIT/v1.2/labels or SPLIT/v2.0/labels/NAME.png (palette PNGs of ids).

Older downloads have the v1.x labels in SPLIT/labels. The splits are called training, validation and testing.
"""

from pathlib import Path

from heteroseg.datasets.paths import expand, pair
from heteroseg.datasets.sample import Item
from heteroseg.errors import HeterosegError, nearest

VERSIONS = ("v1.2", "v2.0")


def _masks(root: Path, split: str, version: str) -> str:
    if version not in VERSIONS:
        names = ", ".join(VERSIONS)
        raise HeterosegError(f"version: expected one of {names}, found {version!r}{nearest(version, VERSIONS)}")
    folder = "{split}/" + version + "/labels"
    older = version == "v1.2" and not (root / expand(folder, split)).is_dir() and (root / split / "labels").is_dir()
    return ("{split}/labels" if older else folder) + "/{name}.png"


def vistas(root: Path | str, split: str, version: str = "v1.2") -> list[Item]:
    """Items named NAME; masks hold the ids 0-65 (v1.2) or 0-123 (v2.0) as palette indices.

    An unknown version, or a folder, image or mask that is missing raises HeterosegError.
    """
    root = Path(root)
    return pair(root, split, "{split}/images/{name}.*", _masks(root, split, version))
