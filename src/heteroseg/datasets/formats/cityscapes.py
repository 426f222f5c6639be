"""Cityscapes: leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png and gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png."""

from pathlib import Path

from heteroseg.datasets.paths import items_of
from heteroseg.datasets.sample import Item


def cityscapes(root: Path, split: str) -> list[Item]:
    """Items named CITY/NAME; masks hold the ids 0-33, 8 bits. Images may be of any format."""
    images, masks = "leftImg8bit/{split}/{name}_leftImg8bit.*", "gtFine/{split}/{name}_gtFine_labelIds.png"
    return items_of(root, split, images, masks)
