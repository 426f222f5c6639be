"""IDD and IDD-Lite: images in leftImg8bit/SPLIT/DRIVE, masks in gtFine/SPLIT/DRIVE.

IDD: FRAME_leftImg8bit.png (part II: .jpg) and FRAME_gtFine_LABELS.png, where LABELS is what IDD's public code was told
to make: labelIds, labellevel1Ids, labellevel3Ids, labelcsIds ... IDD-Lite: FRAME_image.jpg and FRAME_label.png.
"""

from pathlib import Path

from heteroseg.datasets.listing import find_files, paired
from heteroseg.datasets.writing import write_dense
from heteroseg.errors import HeterosegError, nearest
from heteroseg.structures import Item, Sample

FULL = "leftImg8bit/{split}/{name}_leftImg8bit"
FULL_MASKS = "gtFine/{split}/{name}_gtFine_"
LITE = "leftImg8bit/{split}/{name}_image"
LITE_MASKS = "gtFine/{split}/{name}_label.png"


def idd(root: Path | str, split: str, labels: str = "labelIds") -> list[Item]:
    """Items named DRIVE/FRAME; masks hold the ids that `labels` names, 8 bits, 255 ignored.

    Labels that were never made, or a folder, image or mask that is missing raise HeterosegError.
    """
    root = Path(root)
    names = find_files(root, "gtFine/{split}/{name}.png", split)
    kinds = sorted({name.rpartition("_gtFine_")[2] for name in names if "_gtFine_" in name})
    if labels not in kinds:
        raise HeterosegError(
            f"{root / 'gtFine' / split}: expected masks FRAME_gtFine_{labels}.png, "
            f"found {', '.join(kinds) or 'no masks of this form'}; set `labels` to a kind that is there, or make "
            f"the masks with IDD's public code{nearest(labels, kinds)}"
        )
    return paired(root, split, FULL + ".*", FULL_MASKS + labels + ".png")


def write_idd(root: Path | str, split: str, samples: list[Sample], labels: str = "labelIds") -> None:
    """Write samples named DRIVE/FRAME, images as PNG; ids above 255 make the mask 16 bits."""
    write_dense(root, split, samples, FULL + ".png", FULL_MASKS + labels + ".png")


def idd_lite(root: Path | str, split: str) -> list[Item]:
    """Items named DRIVE/FRAME; masks hold the ids 0-6, 8 bits, 255 ignored. What is missing raises HeterosegError."""
    return paired(Path(root), split, LITE + ".*", LITE_MASKS)


def write_idd_lite(root: Path | str, split: str, samples: list[Sample]) -> None:
    """Write samples named DRIVE/FRAME, images as JPEG; ids above 255 make the mask 16 bits."""
    write_dense(root, split, samples, LITE + ".jpg", LITE_MASKS)
