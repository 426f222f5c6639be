"""The pictures of docs/guides/augmentation.md: draws of a training on one drawn scene, a strip for each setting.

python benchmarks/augmentation.py --out docs/images
"""

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np

from heteroseg.datasets import read_image
from heteroseg.datasets.encoding import write_pixels
from heteroseg.experiment.config import AugmentConfig, Experiment
from heteroseg.experiment.sources import Source, open_sources
from heteroseg.model.pictures import colorise
from heteroseg.scenes import generate
from heteroseg.training.batches import TrainingDraws

SIZE, DRAWS = (192, 256), 3  # of the scene and of each crop; crops in a strip, behind the image itself
SETTINGS = {"rotate": 10, "gamma": 3, "fog": 0.7, "blur": 2, "noise": 20, "jpeg": 3}


def source_of(root: Path, scale: tuple[float, float], flip: float) -> Source:
    dataset = {"root": "cityscapes", "reader": "cityscapes", "label_space": "cityscapes", "scale": scale, "flip": flip}
    experiment = Experiment(name="e", taxonomy="streets-108", data_root=str(root), datasets={"drawn": dataset})
    return open_sources(experiment, root, splits=("train",))[0]


def strip(source: Source, color: float, how: AugmentConfig, whole: np.ndarray | None = None) -> np.ndarray:
    """The image and draws of it in a row; with its labels `whole` also what they teach, nothing in black."""
    draws = TrainingDraws([source], 1, SIZE, color, 277, how)
    crops = [(draws[i][0].permute(1, 2, 0).numpy(), draws[i][1].numpy()) for i in range(DRAWS)]
    rows = [np.concatenate([read_image(source.train[0].image), *(image for image, _ in crops)], 1)]
    if whole is not None:
        taught = np.concatenate([whole, *(mask for _, mask in crops)], 1)
        rows.append(np.where(taught[..., None] >= 0, colorise(taught, source.space), 0).astype(np.uint8))
    return np.concatenate(rows)


def pasted(root: Path) -> np.ndarray:
    """Crops of Cityscapes with signs of GTSDB in them, over what they teach; what is not known in black."""
    datasets: dict = {d: {"root": d, "reader": d, "label_space": d, "flip": 0} for d in ("cityscapes", "gtsdb")}
    datasets["cityscapes"]["share"], datasets["gtsdb"]["paste"] = DRAWS + 1, 3
    sources = open_sources(Experiment(name="e", taxonomy="streets-108", data_root=str(root), datasets=datasets), root)
    draws = TrainingDraws(sources, DRAWS + 2, SIZE, 0.0, 5)
    crops, signs = [draws[i] for i in range(DRAWS + 1)], sources[1].space
    rows = [np.concatenate([crop[0].permute(1, 2, 0).numpy() for crop in crops], 1)]
    mask, boxes = (np.concatenate([crop[i].numpy() for crop in crops], 1) for i in (1, 2))
    rows.append(np.where(mask[..., None] >= 0, colorise(mask, sources[0].space), 0).astype(np.uint8))
    known = boxes >= draws.offsets[1]
    rows[1][known] = colorise(boxes - draws.offsets[1], signs)[known]
    return np.concatenate(rows)


def write(path: Path, image: np.ndarray) -> None:
    write_pixels(path, np.ascontiguousarray(image[..., ::-1]), (cv2.IMWRITE_JPEG_QUALITY, 80))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as root:
        generate(Path(root), 1, 1, SIZE, seed=7)
        still, moved = source_of(Path(root), (1, 1), 0), source_of(Path(root), (0.5, 2), 0.5)
        whole = TrainingDraws([still], 1, SIZE, 0.0, 5)[0][1].numpy()
        write(out / "augment-zoom.jpg", strip(moved, 0.0, AugmentConfig(), whole))
        generate(Path(root, "two"), 4, 1, SIZE, seed=9)
        write(out / "augment-paste.jpg", pasted(Path(root, "two")))
        write(out / "augment-color.jpg", strip(still, 1.0, AugmentConfig()))
        for key, value in SETTINGS.items():
            how = AugmentConfig.model_validate({"chance": 1, key: value})
            write(out / f"augment-{key}.jpg", strip(still, 0.0, how, whole if key == "rotate" else None))


if __name__ == "__main__":
    main()
