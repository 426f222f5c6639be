"""Every case: right to the pixel, refused with its reason, or warned of; never wrong in silence."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from heteroseg.cli.main import main
from tests.cases import more_shared_cases, neighbour_cases, odd_file_cases, reason_cases, shared_cases
from tests.cases.drawing import COLORS, NUMBERS

CASES = shared_cases.CASES | more_shared_cases.CASES | neighbour_cases.CASES | odd_file_cases.CASES | reason_cases.CASES
LEAVES = {name: {name} for name in COLORS} | {"object": {"car", "sign"}, "root": set(COLORS)}
LEAST = 0.1  # of the pixels that are labelled, where a case is right


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_wrong_in_silence(name, tmp_path, capsys):
    outcome, words, make = CASES[name]
    make(tmp_path / "case")
    code = main(["data", "show", str(tmp_path / "case/experiment.yaml"), "--out", str(tmp_path / "shown")])
    output = capsys.readouterr()
    lines = (output.out + output.err).splitlines()
    start = "heteroseg: " if outcome == "refused" else "warning: "
    assert not words or any(line.startswith(start) and words in line for line in lines), lines
    assert code == (2 if outcome == "refused" else 0), lines
    if outcome == "right":
        pixels, labelled, wrong, images = counted(tmp_path / "shown")
        assert (wrong, images >= len(NUMBERS)) == (0, True)
        assert labelled >= LEAST * pixels


def counted(folder: Path) -> tuple[int, int, int, int]:
    """Pixels, labelled and wrong ones of all maps that `data show` wrote, and the number of maps.

    A label is wrong where the picture's colour is none of its nodes; next to another colour tools differ by a pixel.
    """
    legend, entries = (json.loads((folder / f"{name}.json").read_text()) for name in ("legend", "maps"))
    pixels = labelled = wrong = 0
    for entry in entries:
        shown = np.asarray(Image.open(folder / entry["map"])).astype(np.int32)
        colors = colors_of(entry["image"], shown.shape)
        inside = interior(colors)
        for value in np.unique(shown[shown > 0]).tolist():
            nodes = legend[entry["dataset"]][str(value)]["nodes"] or ["root"]
            right = [i for i, name in enumerate(COLORS) if any(name in LEAVES[node] for node in nodes)]
            wrong += int(((shown == value) & inside & ~np.isin(colors, right)).sum())
        pixels, labelled = pixels + shown.size, labelled + int((shown > 0).sum())
    return pixels, labelled, wrong, len(entries)


def colors_of(path: str, shape: tuple[int, ...]) -> np.ndarray:
    """(H, W) the nearest of the drawn colours, of a picture upright, or as stored where only that has the shape."""
    stored = Image.open(path)
    turned = ImageOps.exif_transpose(stored)
    picture = turned if turned.size == shape[::-1] else stored
    rgb = np.asarray(picture.convert("RGB")).astype(np.int32)
    return np.abs(rgb[..., None, :] - np.array(list(COLORS.values()))).sum(-1).argmin(-1)


def interior(colors: np.ndarray) -> np.ndarray:
    """(H, W) bool: where all eight neighbours have the same colour."""
    padded = np.pad(colors, 1, mode="edge")
    height, width = colors.shape
    shifts = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return np.all([part == colors for part in shifts], axis=0)
