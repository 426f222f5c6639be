"""Folders as people have them: hidden files, damaged files, odd names, links; and answers that are another input's."""

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from heteroseg.cli.main import main
from heteroseg.errors import HeterosegError
from heteroseg.inference.files import back_off_space, list_jobs, passed_over, predict_files
from heteroseg.scenes import draw_scene


def encoded(seed: int, ending: str = ".jpg") -> bytes:
    return cv2.imencode(ending, draw_scene(np.random.default_rng(seed), (37, 53)).image)[1].tobytes()


def fill(folder: Path, *names: str) -> Path:
    """Photographs of these names, none like another."""
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encoded(seed, ".png" if name.lower().endswith(".png") else ".jpg"))
    return folder


def done(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*.png")}


@pytest.fixture
def space(tiny_model):
    return tiny_model.spaces["cityscapes"]


def test_hidden_files_are_passed_over_and_others_counted(tiny_model, space, tmp_path):
    folder = fill(tmp_path / "in", "a.jpg", "b.jfif", "c.jpe", "D.JPG", "e.JPEG", "sub/f.png", "x.jpg.png")
    for name in ("._a.jpg", ".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX/._a.jpg", ".trash/g.jpg", "sub/.h.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"\0\5\x16\7")
    assert passed_over(folder) is None
    predict_files(tiny_model, [folder], tmp_path / "out", space)
    assert done(tmp_path / "out") == {f"{n}.png" for n in ("a", "b", "c", "D", "e", "sub/f", "x.jpg")}
    for name in ("a.heic", "b.HEIC", "notes.txt", "README"):
        (folder / name).write_text("x")
    told = "4 files are neither images nor videos and were passed over (.heic: 2, .txt: 1, no ending: 1)"
    assert passed_over(folder) == f"{folder}: {told}"


def test_what_is_passed_over_is_one_line(tiny_model_folder, tmp_path, capsys):
    folder = fill(tmp_path / "in", "a.jpg")
    (folder / "notes.txt").write_text("x")
    assert main(["predict", str(tiny_model_folder), str(folder), "--out", str(tmp_path / "out")]) == 0
    assert f"{folder}: 1 files are neither images nor videos and were passed over (.txt: 1)" in capsys.readouterr().err


def test_damaged_images_do_not_stop_the_others(tiny_model_folder, tmp_path, capsys):
    folder = fill(tmp_path / "in", "a.jpg", "z.jpg")
    whole = encoded(3)
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.bmp").write_text("no picture")
    (folder / "gone.jpg").symlink_to("nothing.jpg")
    (folder / "itself.jpg").symlink_to("itself.jpg")
    os.mkfifo(folder / "pipe.jpg")
    fill(folder / "folder.jpg", "inner.jpg")
    command = ["predict", str(tiny_model_folder), str(folder), "--out", str(tmp_path / "out")]
    for _ in range(2):
        assert main(command) == 2
        told = capsys.readouterr().err
        assert all(name in told for name in ("cut.jpg", "empty.png", "text.bmp", "gone.jpg", "itself.jpg", "pipe.jpg"))
        assert "6 of 9 inputs could not be read whole; the rest is done" in told
        assert done(tmp_path / "out") == {"a.png", "z.png", "folder.jpg/inner.png"}
    (folder / "cut.jpg").write_bytes(whole)
    for name in ("empty.png", "text.bmp", "gone.jpg", "itself.jpg", "pipe.jpg"):
        (folder / name).unlink()
    assert main(command) == 0
    assert "cut.png" in done(tmp_path / "out")


def test_one_damaged_image_is_one_sentence(tiny_model, space, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8")
    with pytest.raises(HeterosegError, match=r"^\S*a\.jpg: expected an image, found a file that is cut off or damaged"):
        predict_files(tiny_model, [tmp_path / "a.jpg"], tmp_path / "out", space)


NAMES = (
    "a\nb.jpg",
    "100%d.jpg",
    "[x].jpg",
    "*.jpg",
    "{y}.jpg",
    "😀.jpg",
    "-dash.jpg",
    " sp .jpg",
    "dot..jpg",
    "'q\".jpg",
)


def test_odd_names_are_names(tiny_model, space, tmp_path, capsys):
    folder, out = fill(tmp_path / "in", *NAMES, "n" * 251 + ".jpg"), tmp_path / "out"
    with pytest.raises(HeterosegError, match="expected a name that leaves room for the endings of answers"):
        predict_files(tiny_model, [folder], out, space)
    assert done(out) == {f"{name.removesuffix('.jpg')}.png" for name in NAMES}


def test_a_path_that_is_not_utf_8_is_a_path(tiny_model_folder, tmp_path, capsysbinary):
    folder = tmp_path / "in"
    for name in (b"caf\xe9.jpg", b"d\xe9/x.png", b"plain.jpg"):
        path = Path(os.fsdecode(os.fsencode(folder) + b"/" + name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(1, path.suffix))
    Path(os.fsdecode(os.fsencode(folder) + b"/br\xfcche.jpg")).write_bytes(b"damaged")
    out = tmp_path / os.fsdecode(b"\xf6ut")
    assert main(["predict", str(tiny_model_folder), str(folder), "--out", str(out), "--overlay"]) == 2
    assert done(out) == {os.fsdecode(name) for name in (b"caf\xe9.png", b"d\xe9/x.png", b"plain.png")}
    assert b"br\\udcfcche.jpg: expected an image" in capsysbinary.readouterr().err
    told = json.loads((out / os.fsdecode(b"caf\xe9.json")).read_text())
    assert told["source"] == str(folder / os.fsdecode(b"caf\xe9.jpg"))
    Path(os.fsdecode(os.fsencode(folder) + b"/br\xfcche.jpg")).unlink()
    assert main(["predict", str(tiny_model_folder), str(folder), "--out", str(out), "--overlay"]) == 0


def test_linked_folders_are_read_and_circles_not(tiny_model, space, tmp_path):
    folder, other = fill(tmp_path / "in", "a.jpg"), fill(tmp_path / "other", "b.jpg")
    (folder / "linked").symlink_to(other)
    (folder / "above").symlink_to("..")
    (folder / "self").symlink_to("self")
    (folder / "again.jpg").symlink_to("a.jpg")
    predict_files(tiny_model, [folder], tmp_path / "out", space)
    assert {"a.png", "linked/b.png", "again.png"} <= done(tmp_path / "out")


def test_a_folder_that_cannot_be_read_is_told(tmp_path, monkeypatch):
    folder = fill(tmp_path / "in", "a.jpg", "sub/b.jpg")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(HeterosegError, match="sub: cannot be read, Permission denied"):
        list_jobs([folder], tmp_path / "out")


# ---- answers that are another input's ----


def test_a_second_folder_of_equal_names_is_refused(tiny_model, space, tmp_path):
    """Cameras count from 0 every day."""
    monday, tuesday = fill(tmp_path / "mon", "000.jpg", "001.jpg"), fill(tmp_path / "tue", "x", "001.jpg", "000.jpg")
    predict_files(tiny_model, [monday], tmp_path / "out", space)
    with pytest.raises(HeterosegError, match=r"000\.json: was predicted from \S*mon/000\.jpg, now \S*tue/000\.jpg is"):
        predict_files(tiny_model, [tuesday / "000.jpg"], tmp_path / "out", space)
    shutil.move(monday, tmp_path / "moved")  # the same photographs in another place are the same
    told = []
    predict_files(
        tiny_model, [tmp_path / "moved"], tmp_path / "out", space, progress=lambda job, kept: told.append(kept)
    )
    assert told == [True, True]


def test_a_photograph_replaced_by_one_of_its_size_is_refused(tiny_model, space, tmp_path):
    photo = fill(tmp_path / "in", "a.png") / "a.png"
    predict_files(tiny_model, [photo], tmp_path / "out", space)
    before, data = photo.stat(), bytearray(photo.read_bytes())
    data[-1] ^= 1
    photo.write_bytes(data)
    os.utime(photo, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(HeterosegError, match=r"a\.json: was predicted before this input was changed"):
        predict_files(tiny_model, [photo], tmp_path / "out", space)


def test_options_that_differ_little_are_others(tiny_model, tmp_path):
    photo = fill(tmp_path / "in", "a.png") / "a.png"
    for least, fine in ((0.1234567, True), (0.12345678, False)):
        nodes = back_off_space(tiny_model.taxonomy, least)
        if fine:
            predict_files(tiny_model, [photo], tmp_path / "out", nodes, back_off=least)
            continue
        with pytest.raises(HeterosegError, match="was predicted in label space"):
            predict_files(tiny_model, [photo], tmp_path / "out", nodes, back_off=least)
    with pytest.raises(HeterosegError, match="with images as stored: None, now True"):
        predict_files(
            tiny_model, [photo], tmp_path / "out", back_off_space(tiny_model.taxonomy, 0.1234567), as_stored=True
        )
