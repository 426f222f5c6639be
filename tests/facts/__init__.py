"""Published numbers and names that tests compare with, as data.

`iv2018.json`: classes and mappings of Meletis & Dubbelman, IEEE IV 2018 (arXiv 1803.05675), as their code has them.
`label_tables.json`: ids, names and colours of Cityscapes (labels.py of cityscapesScripts), IDD (anue_labels.py of
AutoNUE), Mapillary Vistas 1.2 and 2.0 (config.json), CamVid (label_colors.txt) and its eleven classes of SegNet; and
which universal concepts the classes of eleven datasets cover (UNIZG-FER-D307/universal_taxonomies, MIT).
`other_tools.json`: what other tools make of small inputs that were made up for it: `rgb2id` of panopticapi-lite
0.2.0, `encode_rle` and `decode_rle` of label-studio-converter 0.0.59, `NuImages.get_segmentation` of nuscenes-devkit
1.2.0. They cannot be installed beside ours: two need numpy 1, and the converter brings a package named `tests`.
"""

import json
from pathlib import Path
from typing import Any


def facts(name: str) -> Any:
    """The content of a file of this folder."""
    return json.loads((Path(__file__).parent / f"{name}.json").read_text(encoding="utf-8"))
