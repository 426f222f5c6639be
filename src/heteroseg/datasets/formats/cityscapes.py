"""Cityscapes: leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png and gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png."""

from pathlib import Path

from heteroseg.datasets.paths import pair
from heteroseg.datasets.sample import Item


def cityscapes(root: Path | str, split: str) -> list[Item]:
    """Items named CITY/NAME; masks hold the ids 0-33, 8 bits. Images may be of any format.

    A folder, image or mask that is missing raises HeterosegError.
    """
    return pair(
        Path(root), split, "leftImg8bit/{split}/{name}_leftImg8bit.*", "gtFine/{split}/{name}_gtFine_labelIds.png"
    )
