"""The pictures of the README and the site, made anew of drawn scenes and the network that ships.

python benchmarks/pictures.py --work runs/pictures      # needs Chromium; writes docs/images/
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
from heteroseg.inference.pictures import colorise, overlay
from playwright.sync_api import Browser, sync_playwright

from heteroseg import load
from heteroseg.cli.main import main as heteroseg
from heteroseg.datasets.encoding import write_image
from heteroseg.files import SPECS
from heteroseg.model.model import Model
from heteroseg.scenes import CONCEPTS, draw_scene, generate

IMAGES = Path(__file__).parents[1] / "docs" / "images"
SIZE, PANEL, PORT = (192, 384), (520, 260), 8731
FOLD = "document.querySelectorAll('details').forEach((one) => (one.open = false))"
TREE = "document.querySelector('#unfold').click(); document.querySelector('#taxonomy').scrollIntoView()"
CROSSING = "Lane Marking - Crosswalk"


def middle(mask: np.ndarray) -> tuple[int, int, float]:
    """x, y of the pixel that lies deepest in a mask (H, W) bool, and how deep."""
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return int(x), int(y), float(depth.max())


def panel(image: np.ndarray, title: str, at: tuple[int, int] | None, name: str) -> np.ndarray:
    """An image below its title, with an arrow to a place of the scene and the name of what is there."""
    shown = cv2.resize(image, PANEL, interpolation=cv2.INTER_CUBIC)
    if at:
        tip = (at[0] * PANEL[0] // SIZE[1], at[1] * PANEL[1] // SIZE[0])
        start = (PANEL[0] // 2, 40)
        for color, width in (((0, 0, 0), 6), ((255, 255, 255), 2)):
            cv2.arrowedLine(shown, start, tip, color, width, cv2.LINE_AA, tipLength=0.12)
        wide = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.75, 2)[0][0]
        left = start[0] - wide // 2
        cv2.rectangle(shown, (left - 10, 10), (left + wide + 10, 44), (255, 255, 255), -1)
        cv2.putText(shown, name, (left, 35), cv2.FONT_HERSHEY_SIMPLEX, 0.75, (0, 0, 0), 2, cv2.LINE_AA)
    shown = cv2.copyMakeBorder(shown, 40, 0, 0, 12, cv2.BORDER_CONSTANT, value=(255,) * 3)
    return cv2.putText(shown, title, (4, 28), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (0, 0, 0), 2, cv2.LINE_AA)


def row(model: Model) -> np.ndarray:
    """An image and its answers in three label spaces, of the first scene that shows well what differs."""
    for seed in range(200):
        scene = draw_scene(np.random.default_rng([77, seed]), SIZE, many_signs=True)
        image, prediction = scene.image, model.predict(scene.image)
        *crossing, wide = middle(prediction.mask(CROSSING, "vistas"))
        signs = np.array([*(label.name for label in model.spaces["gtsdb"].labels), ""])[
            prediction.label_indices("gtsdb")
        ]
        *sign, large = middle(signs == np.array(CONCEPTS)[scene.concepts])  # one whose type is right
        if wide > 6 and large > 10 and sign[1] > 50:
            break
    panels = [panel(image, "one drawn image", None, "")]
    for name, at in (("cityscapes", crossing), ("vistas", crossing), ("gtsdb", sign)):
        space = model.spaces[name]
        found = np.asarray(prediction.label_indices(name))
        told = space.labels[found[at[1], at[0]]].name
        panels.append(panel(overlay(image, colorise(found, space)), f"in the labels of {name}", (at[0], at[1]), told))
    return np.concatenate(panels, 1)


def spoil(data: Path) -> None:
    """Errors for the audit to find: in three masks of Cityscapes' layout sidewalks have become roads, cars walls."""
    for mask in sorted(data.rglob("gtFine/val/**/*_labelIds.png"))[:3]:
        ids = cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)
        ids[ids == 8], ids[ids == 26] = 7, 12
        cv2.imwrite(str(mask), ids)


def shoot(browser: Browser, url: str, out: str, steps: str = "", picture: Path | None = None) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(120_000)
    page.goto(url)
    if picture:
        page.locator("#source").set_input_files(str(picture))
        page.locator("#model-0 .labels li").first.wait_for()
        page.locator("#model-0 .answer canvas").click(position={"x": 450, "y": 140})
        page.locator(".path table").wait_for()
    page.evaluate(steps or "0")
    page.wait_for_timeout(2000)
    page.screenshot(path=str(IMAGES / out), type="jpeg", quality=85)
    page.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a new folder")
    work = parser.parse_args().work.resolve()
    write_image(IMAGES / "demo.jpg", row(load("demo")))
    generate(work / "data", 12, 12, SIZE, seed=5)
    shutil.copy(SPECS / "experiments" / "demo.yaml", work / "experiment.yaml")
    experiment = str(work / "experiment.yaml")
    heteroseg(["evaluate", "demo", "--data", experiment, "--report", str(work / "report.html")])
    photo = sorted(work.glob("data/vistas/val/images/*.jpg"))[1]
    spoil(work / "data")
    heteroseg(["data", "audit", experiment, "--model", "demo", "--out", str(work / "audit")])
    command = [sys.executable, "-m", "heteroseg", "serve", "demo", "--port", str(PORT)]
    with subprocess.Popen(command, env=os.environ) as server, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        shoot(browser, (work / "report.html").as_uri(), "report.jpg")
        shoot(
            browser,
            (work / "report.html").as_uri(),
            "report-tree.jpg",
            TREE,
        )
        shoot(browser, (work / "audit" / "audit.html").as_uri(), "audit.jpg", FOLD)
        time.sleep(20)  # until it serves
        shoot(browser, f"http://127.0.0.1:{PORT}/", "app.jpg", picture=photo)
        browser.close()
        server.terminate()


if __name__ == "__main__":
    main()
