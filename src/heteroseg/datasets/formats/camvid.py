"""CamVid in two layouts: Cambridge's colour-coded one with 32 classes, and SegNet's with 11.

Cambridge's: 701_StillsRaw_full/NAME.png (or .jpg), LabeledApproved_full/NAME_L.png in colours, label_colors.txt with
`R G B<tab>NAME` a line, and SPLIT.txt with a NAME a line. SegNet's: SPLIT.txt with `IMAGE MASK` paths a line.
"""

from pathlib import Path

import numpy as np

from heteroseg.datasets.paths import SHOWN, below, items_of, lines_of, listed_names, stem_of, unique
from heteroseg.datasets.sample import Item
from heteroseg.errors import raise_faults

STILLS, MASKS = "701_StillsRaw_full/{name}.*", "LabeledApproved_full/{name}_L.png"


def _palette(path: Path) -> np.ndarray:
    """As `Item.palette`, a row a line of label_colors.txt; a line that is no colour, or one's double, raises."""
    rows: list[tuple[int, ...]] = []
    faults = []
    for where, line in lines_of(path, "list of colours", "copy it from the dataset"):
        color = tuple(int(w) for w in line.split()[:3] if w.isdecimal() and int(w) < 256)
        if len(color) != 3:
            faults.append(f"{where}: expected 'R G B NAME' with R, G, B from 0 to 255, found {line!r}")
        elif color in rows:
            faults.append(f"{where}: expected a colour of its own for each class, found {color} again")
        rows.append(color)
    raise_faults(faults)
    return np.column_stack([np.array(rows, np.int32).reshape(-1, 3), np.arange(len(rows))])


def camvid(root: Path, split: str) -> list[Item]:
    """Items named NAME with Cambridge's colour masks; ids are the line numbers in label_colors.txt from 0 (0-31)."""
    palette = _palette(root / "label_colors.txt")
    return items_of(root, split, STILLS, MASKS, listed_names(root / f"{split}.txt", stem_of), palette=palette)


def camvid_segnet(root: Path, split: str) -> list[Item]:
    """Items named by the images' stems; masks hold the ids 0-10 and 11 void, 8 bits."""
    items, faults = {}, []
    lines = lines_of(root / f"{split}.txt")
    for where, line in lines:
        files = [Path(word.lstrip("/")) for word in line.split()]
        # under the root, or what their last two parts name there: SegNet's lists say /SegNet/CamVid/train/x.png
        places = [(below(root, str(f), where), below(root, str(Path(*f.parts[-2:])), where)) for f in files]
        missing = [(given, moved) for given, moved in places if not given.is_file() and not moved.is_file()]
        if len(files) != 2:
            faults.append(f"{where}: expected 'IMAGE MASK', two paths, found {line!r}; correct the line")
        elif missing:
            given, moved = missing[0]
            faults.append(f"{where}: expected the file {given} or {moved}, found neither; complete the download")
        else:
            image, mask = (given if given.is_file() else moved for given, moved in places)
            items[stem_of(files[0].name)] = Item(stem_of(files[0].name), image, mask)
    raise_faults(faults, SHOWN)
    return [items[name] for name in unique((where, stem_of(line.split()[0])) for where, line in lines)]
