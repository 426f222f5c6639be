"""Mapillary Vistas: SPLIT/images/NAME.jpg and SPLIT/v1.2/labels or SPLIT/v2.0/labels/NAME.png (palette PNGs of ids).

Older downloads have the v1.x labels in SPLIT/labels. The splits are called training, validation and testing.
"""

from pathlib import Path

from heteroseg.datasets.paths import items_of
from heteroseg.datasets.sample import Item
from heteroseg.errors import require_one_of

VERSIONS = ("v1.2", "v2.0")


def vistas(root: Path, split: str, version: str = "v1.2") -> list[Item]:
    """Items named NAME; masks hold the ids 0-65 (v1.2) or 0-123 (v2.0) as palette indices."""
    require_one_of("version", version, VERSIONS)
    folder, older = f"{version}/labels", root / split / "labels"
    if version == "v1.2" and older.is_dir() and not (root / split / folder).is_dir():
        folder = "labels"
    return items_of(root, split, "{split}/images/{name}.*", f"{{split}}/{folder}/{{name}}.png")
