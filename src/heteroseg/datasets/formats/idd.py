"""IDD and IDD-Lite: images in leftImg8bit/SPLIT/DRIVE, masks in gtFine/SPLIT/DRIVE.

IDD: FRAME_leftImg8bit.png (part II: .jpg) and FRAME_gtFine_LABELS.png, where LABELS is what IDD's public code was told
to make: labelIds, labellevel1Ids to labellevel4Ids, labelcsIds ... The download itself has no masks but polygons,
FRAME_gtFine_polygons.json, which are read too. IDD-Lite: FRAME_image.jpg and FRAME_label.png.
"""

from pathlib import Path

from heteroseg.datasets.paths import expand, find_files, items_of, with_masks
from heteroseg.datasets.sample import Item
from heteroseg.errors import HeterosegError, nearest

FRAMES, MASKS = "leftImg8bit/{split}/{name}_leftImg8bit.*", "gtFine/{split}/{name}_gtFine_"
# the ids of IDD's label table, in its order
_NAMES = """road;parking;drivable fallback;sidewalk;rail track;non-drivable fallback;person;animal;rider;motorcycle;
bicycle;autorickshaw;car;truck;bus;caravan;trailer;train;vehicle fallback;curb;wall;fence;guard rail;billboard;
traffic sign;traffic light;pole;polegroup;obs-str-bar-fallback;building;bridge;tunnel;vegetation;sky;
fallback background;unlabeled;ego vehicle;rectification border;out of roi;license plate"""
NAMES = _NAMES.replace("\n", "").split(";")


def idd(root: Path, split: str, labels: str = "labelIds") -> list[Item]:
    """Items named DRIVE/FRAME; masks hold the ids that `labels` names, 8 bits, 255 ignored.

    `labels` "polygons" paints the polygons of the download to the ids of `labelIds` (0-39, 35 unlabeled).
    """
    if labels == "polygons":
        ids = {name: i for i, name in enumerate(NAMES)}
        items = items_of(root, split, FRAMES, polygon_ids=ids, background=ids["unlabeled"])
        return with_masks(items, lambda i: root / expand(MASKS + "polygons.json", split, i.name), "polygon file")
    names = find_files(root, "gtFine/{split}/{name}.png", split)
    kinds = sorted({name.rpartition("_gtFine_")[2] for name in names if "_gtFine_" in name})
    if labels not in kinds:
        told = f"expected masks FRAME_gtFine_{labels}.png, found {', '.join(kinds) or 'no masks of this form'}"
        hint = "set `labels` to a kind that is there or to 'polygons', or make the masks with IDD's public code"
        raise HeterosegError(f"{root / 'gtFine' / split}: {told}; {hint}{nearest(labels, kinds)}")
    return items_of(root, split, FRAMES, MASKS + labels + ".png")


def idd_lite(root: Path, split: str) -> list[Item]:
    """Items named DRIVE/FRAME; masks hold the ids 0-6, 8 bits, 255 ignored."""
    return items_of(root, split, "leftImg8bit/{split}/{name}_image.*", "gtFine/{split}/{name}_label.png")
