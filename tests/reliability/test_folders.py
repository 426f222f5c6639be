"""Drawn folders as people have them: whole and damaged images, hidden files, odd names, links, pipes; drawn videos.

What is whole is always labelled, what is damaged is always named, and nothing else is said or stopped.
"""

import os
import random
from pathlib import Path

import cv2
import numpy as np
import pytest

from heteroseg.errors import HeterosegError
from heteroseg.inference.files import predict_files
from tests.reliability import SEED, WHOLE

DRAWN = 200 if WHOLE else 8
ENDINGS = (".jpg", ".JPG", ".jpeg", ".jfif", ".jpe", ".png", ".bmp", ".tif", ".webp", ".ppm")
SIGNS = (
    "a",
    "ä",
    "😀",
    " ",
    "%",
    "[",
    "]",
    "*",
    "{0}",
    "'",
    '"',
    "\n",
    "$",
    "#",
    "&",
    ";",
    os.fsdecode(b"\xe9"),
    "~",
    "-",
    "..",
    "\\",
)


def encoded(chance: random.Random, ending: str) -> bytes:
    pixels = np.random.default_rng(chance.getrandbits(32)).integers(0, 256, (9, 13, 3), np.uint8)
    kind = ".jpg" if ending.lower() in (".jpg", ".jpeg", ".jfif", ".jpe") else ending
    return cv2.imencode(kind, pixels)[1].tobytes()


def draw(chance: random.Random, folder: Path) -> tuple[set[Path], set[Path]]:
    """Fill a folder; what of it is whole, and what is damaged."""
    whole, damaged = set[Path](), set[Path]()
    for i in range(chance.randrange(1, 9)):
        ending = chance.choice(ENDINGS)
        name = "".join(chance.choices(SIGNS, k=chance.randrange(1, 6))) + f"{i}{ending}"
        path = folder / chance.choice(["", "sub", os.fsdecode(b"s\xfcb"), "a b/c.jpg"]) / name.lstrip(".")
        path.parent.mkdir(parents=True, exist_ok=True)
        data = encoded(chance, ending)
        match chance.choice(["whole"] * 4 + ["cut", "empty", "text", "link", "nothing", "circle", "pipe", "hidden"]):
            case "whole":
                path.write_bytes(data)
                whole.add(path)
                continue
            case "link":
                (folder.parent / f"{i}{ending}").write_bytes(data)
                path.symlink_to(folder.parent / f"{i}{ending}")
                whole.add(path)
                continue
            case "hidden":
                path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
                (folder / chance.choice(["Thumbs.db", ".DS_Store", "notes.txt", "a.heic"])).write_bytes(b"x")
                continue
            case "cut":
                path.write_bytes(data[: len(data) // 3])
            case "empty":
                path.write_bytes(b"")
            case "text":
                path.write_text("no image\n" * 9)
            case "nothing":
                path.symlink_to("nothing")
            case "circle":
                path.symlink_to(path.name)
            case "pipe":
                os.mkfifo(path)
        damaged.add(path)
    return whole, damaged


@pytest.mark.parametrize("number", range(DRAWN))
def test_a_drawn_folder(tiny_model, tmp_path, number):
    whole, damaged = draw(random.Random(f"{SEED} {number}"), tmp_path / "in")
    out, space = tmp_path / "out", tiny_model.space("leaves")
    if not whole | damaged:
        with pytest.raises(HeterosegError, match=r"expected images or videos in this folder|found no such file"):
            predict_files(tiny_model, [tmp_path / "in"], out, space)
        return
    for _ in range(2):  # and again: what is done is kept
        faults: tuple[str, ...] = ()
        try:
            predict_files(tiny_model, [tmp_path / "in"], out, space)
        except HeterosegError as error:
            faults = error.faults
        done = {out / path.relative_to(tmp_path / "in").with_suffix(".png") for path in whole}
        assert set(out.rglob("*.png")) == done
        assert bool(faults) == bool(damaged)
        assert all(any(str(path) in fault for fault in faults) for path in damaged)
        assert not any(str(path) in fault for fault in faults for path in whole)


@pytest.mark.parametrize("number", range(DRAWN))
def test_a_drawn_video(tmp_path, number):
    """Cut anywhere, or with bytes changed: it ends, numbers rise, and where it is cut off, that is told."""
    pytest.importorskip("av")
    from heteroseg.inference.video import Places, Video

    chance = random.Random(f"{SEED} {number}")
    name, codec = chance.choice([("v.avi", "MJPG"), ("v.avi", "mp4v"), ("v.mp4", "mp4v"), ("v.mkv", "mp4v")])
    writer = cv2.VideoWriter(str(tmp_path / name), cv2.VideoWriter.fourcc(*codec), 10.0, (64, 48))
    if not writer.isOpened():
        pytest.skip(f"this OpenCV writes no {codec}")
    for i in range(12):
        writer.write(np.random.default_rng(i).integers(0, 256, (48, 64, 3)).astype(np.uint8))
    writer.release()
    data = bytearray((tmp_path / name).read_bytes())
    cut = chance.random() < 0.5
    if cut:
        del data[chance.randrange(1, len(data) - 1) :]
    else:
        for _ in range(chance.randrange(1, 40)):
            data[chance.randrange(len(data))] = chance.randrange(256)
    (tmp_path / name).write_bytes(data)
    try:
        video = Video(tmp_path / name)
        places = Places(video, tmp_path / name)
        numbers = [places.next() for _ in video]
    except HeterosegError:  # its head is gone
        return
    assert numbers == sorted(set(numbers))
    assert places.fault() or not cut
