"""The embedded demo: generate three datasets, train one network on all, evaluate, predict, and show it."""

import time
from collections.abc import Callable, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from heteroseg.datasets import read_image
from heteroseg.datasets.encoding import write_image
from heteroseg.evaluation.scores import evaluate
from heteroseg.experiment.config import Experiment, load_experiment
from heteroseg.experiment.sources import Source, open_sources
from heteroseg.files import SPECS, fill_template, read_text, write_text
from heteroseg.inference.files import predict_files
from heteroseg.labels.space import own_space
from heteroseg.model.model import SHIPPED, Model, load
from heteroseg.model.pictures import picture
from heteroseg.report.page import write_report
from heteroseg.report.run import evaluation_contents, report_run
from heteroseg.scenes import draw_scene, generate
from heteroseg.training.loop import train

TRAIN_IMAGES, VAL_IMAGES, QUICK_IMAGES = 160, 24, 6  # per dataset
QUICK_SEED = 1  # of scenes that the shipped network was not trained on


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


class Stages:
    """Tells each stage of a demo with the seconds since the first."""

    def __init__(self, log: Callable[[str], None]):
        self.log, self.begin = log, time.time()

    def __call__(self, text: str) -> None:
        self.log(f"[{time.time() - self.begin:5.0f} s] {text}")


def run_demo(wanted: Path, overrides: Sequence[str], log: Callable[[str], None]) -> Path:
    """Run the whole demo in a new folder and return the path of its report."""
    stage, out = Stages(log), fresh_folder(wanted)
    experiment, folder = _experiment(out, overrides)
    unseen = draw_scene(np.random.default_rng(QUICK_SEED), (192, 384)).image
    write_image(first := out / "first.jpg", answers(load("demo"), unseen))
    stage(f"a first picture, answers of the network that ships: {first}")
    stage(f"drawing {3 * (TRAIN_IMAGES + VAL_IMAGES)} street scenes in the layouts of Cityscapes, Vistas and GTSDB")
    generate(out / "data", TRAIN_IMAGES, VAL_IMAGES)
    stage(f"training one network on all three, {experiment.train.steps} steps ({out / 'experiment.yaml'})")
    result = train(experiment, folder, out / "run")
    assert result is not None  # the demo's datasets have val splits
    stage("predicting validation images")
    _predict(load(out / "run" / "last"), open_sources(experiment, folder, splits=("val",)), out)
    stage("writing the report")
    report_run(out / "run", page := out / "report.html", title="heteroseg demo")
    return _end(stage, result, out / "run" / "best", page)


def run_quick(wanted: Path, log: Callable[[str], None]) -> Path:
    """Show the network that ships on scenes that it has not seen, in a new folder; returns the path of the report."""
    stage, out = Stages(log), fresh_folder(wanted)
    experiment, folder = _experiment(out, [])
    stage(f"drawing {3 * QUICK_IMAGES} street scenes in the layouts of Cityscapes, Vistas and GTSDB")
    generate(out / "data", 0, QUICK_IMAGES, seed=QUICK_SEED)
    model, sources = load("demo"), open_sources(experiment, folder, splits=("val",))
    stage("labelling them with the network that ships")
    result = evaluate(model, sources)
    _predict(model, sources, out)
    stage("writing the report")
    write_report(page := out / "report.html", evaluation_contents("heteroseg demo", model, sources, result, 9))
    return _end(stage, result, SHIPPED, page)


def _experiment(out: Path, overrides: Sequence[str]) -> tuple[Experiment, Path]:
    write_text(out / "experiment.yaml", read_text(SPECS / "experiments" / "demo.yaml"))
    return load_experiment(out / "experiment.yaml", overrides)


def _predict(model: Model, sources: Sequence[Source], out: Path) -> None:
    """Label two images of each dataset, and draw the answers for the last ones beside each other."""
    for source in sources:
        images = [item.image for item in source.val[:2]]
        predict_files(model, images, out / "predictions" / source.name, own_space(model.taxonomy), with_overlay=True)
    for image in images:
        write_image(out / "predictions" / f"{image.stem}_answers.jpg", answers(model, read_image(image)))


def _end(stage: Stages, result: dict[str, Any], model: Path, page: Path) -> Path:
    stage("done")
    stage.log(f"\n{fill_template('scores.txt', result)}\n\nmodel:       {model}")
    stage.log(f"predictions: {page.parent / 'predictions'}\nreport:      {page.resolve()}")
    return page
