"""The page "ten minutes with your own data" is followed to the letter, on small drawn data."""

import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest

from heteroseg.cli.main import main
from heteroseg.files import write_json

PAGE = (Path(__file__).parents[2] / "docs" / "start.md").read_text(encoding="utf-8")
SMALL = ["train.steps=2", "train.batch=2", "train.crop=[64,64]", "train.workers=0", "train.accelerator=cpu"]


def blocks(kind: str) -> list[str]:
    """Texts of the page's blocks, but those that say why they are not run."""
    return re.findall(rf"(?<!-->\n)```{kind}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What `heteroseg init` writes, which the page shows, and data as its first block lists them."""
    above = tmp_path_factory.mktemp("start")
    folder = above / "mine"
    assert main(["init", str(folder)]) == 0
    names = re.findall(r"^`(\w+\.yaml)`", PAGE, flags=re.MULTILINE)
    shown = dict(zip(names, blocks("yaml"), strict=True))
    assert shown == {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    rng = np.random.default_rng(0)

    def image(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), rng.integers(0, 256, (96, 96, 3), np.uint8))

    for split in ("train", "val"):
        notes = []
        for i in range(3):
            image(folder / "data" / "parks" / "images" / split / f"{i}.jpg")
            mask = folder / "data" / "parks" / "masks" / split / f"{i}.png"
            mask.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(mask), np.kron(rng.integers(0, 4, (4, 4)), np.ones((24, 24))).astype(np.uint8))
            image(folder / "data" / "signs" / split / f"{i}.jpg")
            notes.append({"id": i, "image_id": i, "category_id": 1 + i % 2, "bbox": [20 + i, 30, 24, 24]})
        images = [{"id": i, "file_name": f"{i}.jpg", "width": 96, "height": 96} for i in range(3)]
        write_json(folder / "data" / "signs" / f"{split}.json", {"images": images, "annotations": notes})
    image(folder / "photos" / "mine.jpg")
    return folder


def test_every_command_of_the_page_runs(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    lines = [line.partition("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if line]
    assert [c[0] for c in commands] == ["init", "mine", "taxonomy", "data", "train", "evaluate", "predict"]
    for command in commands[2:]:
        small = SMALL if command[0] == "train" else []
        assert main([*command, *small]) == 0, command
    out = capsys.readouterr().out
    assert "all sound" in out
    assert "claimed" in out
    assert (folder / "out" / "mine.png").is_file()
    assert (folder / "run" / "report.html").is_file()
