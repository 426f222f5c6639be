"""Train one network on two datasets of your own whose labels differ, from Python: coarse masks here, fine ones there.

python examples/two_datasets.py shapes      # draws both into the new folder shapes/ and trains there, about a minute
"""

import sys
from pathlib import Path

import cv2
import numpy as np

import heteroseg

FILES = {
    "tree.yaml": "{name: shapes, tree: {root: [ground, shape], shape: [disc, square]}}",
    "coarse.yaml": """{name: coarse, taxonomy: tree.yaml, labels: [
        {id: 0, name: ground, nodes: ground}, {id: 1, name: something, nodes: shape}]}""",
    "fine.yaml": """{name: fine, taxonomy: tree.yaml, labels: [{id: 0, name: ground, nodes: ground},
        {id: 7, name: disc, nodes: disc}, {id: 9, name: square, nodes: square}]}""",
}
COARSE, FINE = (0, 1, 1), (0, 7, 9)  # what each dataset stores for ground, disc and square


def draw(folder: Path, ids: tuple[int, int, int], seed: int) -> None:
    """Eight photographs and masks for training and two for scores; the masks are PNGs with an id in every pixel."""
    rng = np.random.default_rng(seed)
    for i in range(10):
        what = np.zeros((96, 96), np.uint8)
        cv2.circle(what, [int(v) for v in rng.integers(20, 76, 2)], 16, 1, -1)
        x, y = (int(v) for v in rng.integers(8, 60, 2))
        cv2.rectangle(what, (x, y), (x + 28, y + 28), 2, -1)
        image = np.array([(60, 120, 60), (200, 80, 80), (80, 80, 200)])[what] + rng.normal(0, 12, (96, 96, 1))
        split = "train" if i < 8 else "val"
        for kind, pixels in (("images", image.clip(0, 255)), ("masks", np.array(ids)[what])):
            (folder / split / kind).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / split / kind / f"{i}.png"), pixels.astype(np.uint8))


def main(place: Path, steps: int = 60) -> dict[str, float]:
    """The mIoU of each dataset in its own labels, in percent."""
    layout = {"images": "{split}/images/{name}.png", "masks": "{split}/masks/{name}.png"}
    draw(place / "coarse", COARSE, seed=0)
    draw(place / "fine", FINE, seed=1)
    for name, text in FILES.items():
        (place / name).write_text(text)
    datasets = {
        name: {"root": name, "reader": "folder", "label_space": f"{name}.yaml", "options": layout}
        for name in ("coarse", "fine")
    }
    settings = {"steps": steps, "batch": 4, "crop": (64, 64), "ema": 0.9, "workers": 0}
    more = {"model": {"width": 32}, "optimiser": {"warmup": 5}, "train": settings}
    experiment = heteroseg.Experiment(name="shapes", taxonomy="tree.yaml", datasets=datasets, **more)
    result = heteroseg.train(experiment, place, place / "run")
    return {name: 100 * scores["miou"] for name, scores in result["datasets"].items()}


if __name__ == "__main__":
    print(main(Path(sys.argv[1])))
