"""The embedded demo: generate three datasets, train one network on all, evaluate, predict, and show it."""

import time
from collections.abc import Callable, Sequence
from itertools import chain, count
from pathlib import Path

import cv2
import numpy as np

from heteroseg.datasets import read_image
from heteroseg.datasets.encoding import write_image
from heteroseg.experiment.config import load_experiment
from heteroseg.experiment.sources import open_sources
from heteroseg.files import SPECS, fill_template, read_text, write_text
from heteroseg.inference.files import picture, predict_files
from heteroseg.labels.space import own_space
from heteroseg.model.model import Model, load
from heteroseg.report.run import report_run
from heteroseg.scenes import generate
from heteroseg.training.loop import train

TRAIN_IMAGES, VAL_IMAGES = 160, 24  # per dataset


def fresh_folder(wanted: Path) -> Path:
    """The wanted folder, or the first of wanted-2, wanted-3, ... that does not exist yet: nothing is overwritten."""
    named = wanted if wanted.name else wanted.absolute()  # "." has no name
    numbered = (named.parent / f"{named.name}-{n}" for n in count(2))
    return next(folder for folder in chain([wanted], numbered) if not folder.exists())


def answers(model: Model, image: np.ndarray) -> np.ndarray:
    """A picture of one image (H, W, 3) uint8 beside the network's answer in each of its label spaces, with legends."""
    prediction = model.predict(image)
    image = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    panels = {"": image}
    for space in model.spaces.values():
        label_map = prediction.label_indices(space).repeat(2, 0).repeat(2, 1)
        panels[f"in the labels of {space.name}"] = picture(image, label_map, space)
    tiles, tallest = [], max(map(len, panels.values()))
    for title, panel in panels.items():
        tile = cv2.copyMakeBorder(panel, 40, tallest - len(panel), 0, 12, cv2.BORDER_CONSTANT, value=(255,) * 3)
        tiles.append(cv2.putText(tile, title, (8, 27), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (0, 0, 0), 1, cv2.LINE_AA))
    return np.concatenate([np.concatenate(tiles[:2], 1), np.concatenate(tiles[2:], 1)])


def run_demo(wanted: Path, overrides: Sequence[str], log: Callable[[str], None]) -> Path:
    """Run the whole demo in a new folder and return the path of its report."""
    begin = time.time()
    out = fresh_folder(wanted)

    def stage(text: str) -> None:
        log(f"[{time.time() - begin:5.0f} s] {text}")

    write_text(out / "experiment.yaml", read_text(SPECS / "experiments" / "demo.yaml"))
    experiment, folder = load_experiment(out / "experiment.yaml", overrides)
    stage(f"drawing {3 * (TRAIN_IMAGES + VAL_IMAGES)} street scenes in the layouts of Cityscapes, Vistas and GTSDB")
    generate(out / "data", TRAIN_IMAGES, VAL_IMAGES)

    stage(f"training one network on all three, {experiment.train.steps} steps ({out / 'experiment.yaml'})")
    result = train(experiment, folder, out / "run")
    assert result is not None  # the demo's datasets have val splits
    stage("predicting validation images")
    model = load(out / "run" / "last")
    for source in open_sources(experiment, folder, splits=("val",)):
        images = [item.image for item in source.val[:2]]
        predict_files(model, images, out / "predictions" / source.name, own_space(model.taxonomy), with_overlay=True)
    for image in images:
        write_image(out / "predictions" / f"{image.stem}_answers.jpg", answers(model, read_image(image)))
    stage("writing the report")
    page = out / "report.html"
    report_run(out / "run", page, title="heteroseg demo")
    stage("done")
    log("")
    log(fill_template("scores.txt", result))
    log(f"\nmodel:       {out / 'run' / 'best'}\npredictions: {out / 'predictions'}\nreport:      {page.resolve()}")
    return page
