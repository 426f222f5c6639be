"""Small drawn street scenes for the demo and the tests: no download, every label known.

A scene is drawn in metres through a pinhole camera, the picture and its concepts together and at twice the size, so
that edges of both agree. Concepts are nodes of the taxonomy `streets-108`; what a dataset stores of them follows from
its shipped label space, so the same kind of scene is coarse in Cityscapes, finer in Vistas and boxes in GTSDB.
"""

from pathlib import Path

import numpy as np

from heteroseg.datasets.sample import Sample
from heteroseg.labels.space import LabelSpace, load_label_space
from heteroseg.scenes.canvas import Scene
from heteroseg.scenes.layouts import write_cityscapes, write_gtsdb, write_vistas
from heteroseg.scenes.look import CONCEPTS, INDEX, OTHER_SIGN, SIGNS
from heteroseg.scenes.street import draw_scene

__all__ = ["CONCEPTS", "INDEX", "OTHER_SIGN", "SIGNS", "Scene", "concept_ids", "draw_scene", "generate", "to_sample"]


def concept_ids(space: LabelSpace) -> np.ndarray:
    """(concepts,) the id that the label space stores for each concept."""
    return space.native_ids(space.by_node[[space.taxonomy.index(name) for name in CONCEPTS]])


def to_sample(scene: Scene, name: str, space: LabelSpace, scoring: bool) -> Sample:
    """The scene as a dataset stores it; one with a gate (boxes) has a mask of its boxed signs only, for scoring."""
    ids = concept_ids(space)
    mask = ids[scene.concepts].astype(np.int32)
    if space.file.gate is None:
        return Sample(name, scene.image, mask)
    scored = np.full_like(mask, space.outside)
    for (x, y, x2, y2), box_name in zip(scene.boxes.astype(int), scene.box_names, strict=True):
        part = scene.concepts[y:y2, x:x2] == INDEX[box_name]
        scored[y:y2, x:x2][part] = mask[y:y2, x:x2][part]
    box_ids = np.array([ids[INDEX[n]] for n in scene.box_names], np.int64)
    return Sample(name, scene.image, scored if scoring else None, scene.boxes, box_ids)


def generate(root: Path, train: int, val: int, size: tuple[int, int] = (192, 384), seed: int = 0) -> None:
    """Write `cityscapes`, `vistas` and `gtsdb` under `root`, each of its own scenes, splits train and val."""
    writers = {"cityscapes": write_cityscapes, "vistas": write_vistas, "gtsdb": write_gtsdb}
    for i, (dataset, write) in enumerate(writers.items()):
        space = load_label_space(dataset)
        for j, (split, count) in enumerate((("train", train), ("val", val))):
            rngs = [np.random.default_rng([seed, i, j, n]) for n in range(count)]
            scenes = (draw_scene(rng, size, many_signs=dataset == "gtsdb") for rng in rngs)
            # Cityscapes names its images after cities; in GTSDB names are unique over the splits
            place = f"{split}town/" if dataset == "cityscapes" else ""
            names = (f"{place}{j * train + n:05d}" for n in range(count))
            samples = [to_sample(s, name, space, split == "val") for s, name in zip(scenes, names, strict=True)]
            write(root / dataset, split, samples)
