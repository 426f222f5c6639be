"""Writers of the layouts that are read: `WRITERS[reader](root, split, samples)` writes what the reader reads."""

from collections.abc import Callable

from heteroseg.scenes.layouts import write_cityscapes, write_gtsdb, write_vistas
from tests.writers.boxes import write_gtsrb, write_mtsd, write_open_images
from tests.writers.exports import write_cvat, write_label_studio, write_yolo
from tests.writers.masks import (
    write_a2d2,
    write_camvid,
    write_camvid_segnet,
    write_coco_panoptic,
    write_folder,
    write_idd,
    write_idd_lite,
    write_nuimages,
)
from tests.writers.shards import write_huggingface, write_webdataset

WRITERS: dict[str, Callable[..., None]] = {
    "cityscapes": write_cityscapes,
    "vistas": write_vistas,
    "gtsdb": write_gtsdb,
    "camvid": write_camvid,
    "camvid_segnet": write_camvid_segnet,
    "idd": write_idd,
    "idd_lite": write_idd_lite,
    "folder": write_folder,
    "a2d2": write_a2d2,
    "nuimages": write_nuimages,
    "coco_panoptic": write_coco_panoptic,
    "open_images": write_open_images,
    "mtsd": write_mtsd,
    "gtsrb": write_gtsrb,
    "yolo": write_yolo,
    "cvat": write_cvat,
    "label_studio": write_label_studio,
    "huggingface": write_huggingface,
    "webdataset": write_webdataset,
}
