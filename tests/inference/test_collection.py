"""A large prediction is done once for each file, also when it is killed in the middle."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("ray.data", reason="the extra ray is not installed")
import pyarrow.parquet as pq

from heteroseg.cli.main import main
from heteroseg.datasets import read_mask
from heteroseg.errors import HeterosegError
from heteroseg.inference.collection import Place, predict_collection
from heteroseg.scenes import draw_scene


def write_images(folder: Path, count: int) -> list[str]:
    """Small scenes, several of one name in different folders and of one stem with different endings."""
    scene = draw_scene(np.random.default_rng(1), (32, 48)).image[..., ::-1]
    names = [f"{i % 3}/{i // 3:05d}.{'png' if i % 2 else 'jpg'}" for i in range(count)]
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), np.roll(scene, i, 1))
    return sorted(names)


def rows_of(out: Path) -> list[dict]:
    return pq.read_table(out / "manifest.parquet").to_pylist()


def test_killed_in_the_middle_every_file_is_done_once(tiny_model_folder, tmp_path):
    names = write_images(tmp_path / "images", 1000)
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "heteroseg",
        "predict-many",
        str(tiny_model_folder),
        str(tmp_path / "images"),
        "--out",
        str(out),
        "--labels",
        "cityscapes",
        "--batch",
        "16",
    ]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while len(list(out.glob("manifest/*.parquet"))) < 20 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert process.poll() is None, "ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(3)  # what still runs of it must not write any more
    finished = {name for part in out.glob("manifest/*.parquet") for name in pq.read_table(part)["source"].to_pylist()}
    assert 0 < len(finished) < 1000
    before = {name: (out / f"labels/{name}.png").stat().st_mtime_ns for name in finished}
    time.sleep(2)
    assert finished == {
        name for part in out.glob("manifest/*.parquet") for name in pq.read_table(part)["source"].to_pylist()
    }

    again = subprocess.run(command, capture_output=True, text=True)
    assert not re.findall(r"(?:INFO|WARNING) \w+\.py:\d+ --.*", again.stderr)  # Ray's own words
    assert again.returncode == 0, again.stderr
    assert f"1000 images, {len(finished)} done before" in again.stderr
    assert f"1000 images in {out}, {1000 - len(finished)} of them new" in again.stdout
    rows = rows_of(out)
    assert Counter(row["source"] for row in rows) == Counter(names)
    parts = [name for part in out.glob("manifest/*.parquet") for name in pq.read_table(part)["source"].to_pylist()]
    assert Counter(parts) == Counter(names)
    assert {name: (out / f"labels/{name}.png").stat().st_mtime_ns for name in finished} == before
    files = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    assert {f for f in files if f.startswith("labels/")} == {f"labels/{name}.png" for name in names}
    assert not [f for f in files if ".part-" in f]


@pytest.fixture(scope="module")
def done(tiny_model_folder, tmp_path_factory):
    """A finished job over images of which one is broken."""
    root = tmp_path_factory.mktemp("collection")
    write_images(root / "images", 7)
    (root / "images" / "0" / "broken.png").write_bytes(b"no picture")
    (root / "images" / "notes.txt").write_text("no image")
    summary = predict_collection(str(tiny_model_folder), str(root / "images"), str(root / "out"), "vistas", 1, 3)
    return root, summary


def test_labels_and_manifest_are_what_predict_says(done, tiny_model):
    root, summary = done
    rows = {row["source"]: row for row in rows_of(root / "out")}
    assert len(rows) == 8
    assert summary["images"] == 7
    space, totals = tiny_model.space("vistas"), Counter()
    for name, row in rows.items():
        if name == "0/broken.png":
            assert "0/broken.png" in row["error"]
            assert row["labels"] is None
            continue
        said = tiny_model.predict(root / "images" / name)
        ids = read_mask(root / "out" / row["labels"])
        np.testing.assert_array_equal(ids, said.labels("vistas"))
        found = said.label_indices("vistas")
        assert (row["width"], row["height"]) == (48, 32)
        assert row["confidence"] == pytest.approx(said.mean_confidence("vistas"), abs=1e-5)
        by_name = Counter(space.labels[i].name if i >= 0 else "(outside)" for i in found.ravel().tolist())
        assert dict(row["pixels"]) == dict(by_name)
        totals += by_name
    assert summary["pixels"] == dict(totals)
    assert list(summary["faults"]) == ["0/broken.png"]
    least = min((r for r in rows.values() if r["error"] is None), key=lambda r: r["confidence"])
    assert next(iter(summary["least_sure"])) == least["source"]


def test_faults_are_tried_again_and_new_images_found(done, tiny_model_folder, capsys):
    root, _ = done
    work = root / "copy"
    shutil.copytree(root, work)
    job = json.loads((work / "out" / "job.json").read_text())
    (work / "out" / "job.json").write_text(json.dumps(job | {"source": str(work / "images")}))
    command = ["predict-many", str(tiny_model_folder), str(work / "images"), "--out", str(work / "out")]
    assert main([*command, "--labels", "cityscapes"]) == 2
    assert "was predicted in label space 'vistas', now 'cityscapes' is asked for" in capsys.readouterr().err
    (work / "out" / "job.json").write_text(json.dumps(job | {"source": str(work / "images"), "labels_digest": "other"}))
    assert main([*command, "--labels", "vistas"]) == 2
    assert "before label space 'vistas' or its taxonomy was changed" in capsys.readouterr().err
    (work / "out" / "job.json").write_text(json.dumps(job | {"source": str(work / "images")}))
    assert main([*command, "--labels", "vistas", "--workers", "1"]) == 2
    assert "1 file could not be labelled" in capsys.readouterr().err
    shutil.copyfile(work / "images" / "0" / "00000.jpg", work / "images" / "0" / "broken.png")
    shutil.copyfile(work / "images" / "0" / "00000.jpg", work / "images" / "new.jpg")
    assert main([*command, "--labels", "vistas", "--workers", "1"]) == 0
    assert "9 images in" in capsys.readouterr().out
    assert all(row["error"] is None for row in rows_of(work / "out"))
    cv2.imwrite(str(work / "images" / "new.jpg"), np.zeros((20, 30, 3), np.uint8))
    assert main([*command, "--labels", "vistas", "--workers", "1"]) == 0
    assert "1 of them new" in capsys.readouterr().out  # the image has changed
    (row,) = (row for row in rows_of(work / "out") if row["source"] == "new.jpg")
    assert (row["width"], row["height"], row["error"]) == (30, 20, None)


def test_wrong_places(tiny_model_folder, tmp_path, capsys):
    model, images = str(tiny_model_folder), tmp_path / "images"
    write_images(images, 1)

    def refused(*args: str) -> str:
        assert main(["predict-many", model, *args]) == 2
        return capsys.readouterr().err

    assert "expected images" in refused(str(tmp_path / "nowhere"), "--out", str(tmp_path / "out"))
    assert "lies in the folder of the images" in refused(str(images), "--out", str(images / "out"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "work.txt").write_text("mine")
    assert "expected a new or empty folder" in refused(str(images), "--out", str(tmp_path / "mine"))
    assert "cannot be opened" in refused("nothing://bucket", "--out", str(tmp_path / "out"))
    assert "no label space" in refused(str(images), "--out", str(tmp_path / "out"), "--labels", "vista")
    with pytest.raises(HeterosegError, match="cannot be opened"):
        Place("nothing://bucket")


def test_places_in_memory_behave_like_folders():
    place = Place("memory://collection-test")
    assert place.names() == []
    place.write("b/x.png", b"1")
    place.write("a.png", b"2")
    place.write("b/x.png", b"3")
    assert place.names() == ["a.png", "b/x.png"]
    assert place.files.cat_file("b/x.png") == b"3"
    place.files.rm_file("a.png")
    assert place.names() == ["b/x.png"]
    place.files.rm_file("b/x.png")


@pytest.mark.parametrize("damage", ["job.json", "manifest", "both", "empty job.json"])
def test_damaged_notes_are_made_again(done, tiny_model_folder, tmp_path, damage):
    root, _ = done
    work = tmp_path / "work"
    shutil.copytree(root, work, ignore=shutil.ignore_patterns("broken.png*"))
    out = work / "out"
    shutil.rmtree(out)
    command = ["predict-many", str(tiny_model_folder), str(work / "images"), "--out", str(out), "--labels", "vistas"]
    command += ["--workers", "1", "--batch", "3"]
    assert main(command) == 0
    before = {p.name: p.read_bytes() for p in (out / "labels").rglob("*.png")}
    job, manifests = (out / "job.json").read_bytes(), sorted(out.glob("manifest/*.parquet"))
    if damage != "manifest":
        (out / "job.json").write_bytes(b"" if damage == "empty job.json" else job[:20])
    if damage in ("manifest", "both"):
        manifests[0].write_bytes(manifests[0].read_bytes()[:-30])
        manifests[1].write_bytes(b"")
    assert main(command) == 0
    assert (out / "job.json").read_bytes() == job
    assert len(rows_of(out)) == 7
    assert {p.name: p.read_bytes() for p in (out / "labels").rglob("*.png")} == before


def test_a_label_map_that_was_worked_on_is_not_replaced(done, tiny_model_folder, tmp_path, capsys):
    root, _ = done
    work = tmp_path / "work"
    shutil.copytree(root, work, ignore=shutil.ignore_patterns("broken.png*"))
    out, name = work / "out", "0/00000.jpg"
    shutil.rmtree(out)
    command = ["predict-many", str(tiny_model_folder), str(work / "images"), "--out", str(out), "--labels", "vistas"]
    assert main([*command, "--workers", "1"]) == 0
    edited = out / "labels" / f"{name}.png"
    edited.write_bytes(b"mine")
    cv2.imwrite(str(work / "images" / name), np.zeros((20, 30, 3), np.uint8))
    assert main([*command, "--workers", "1"]) == 2
    assert f"{edited}: stands there and is not" in capsys.readouterr().err
    assert edited.read_bytes() == b"mine"
    (out / "job.json").write_text("{")
    for manifest in out.glob("manifest/*.parquet"):
        manifest.unlink()
    assert main(command) == 2
    assert "job.json: expected what was predicted here, found a damaged file" in capsys.readouterr().err


def test_what_has_changed_is_labelled_again(tiny_model_folder, tmp_path, capsys, monkeypatch):
    """Photographs replaced by others of their size and time, a lost label map; but nothing for a new time alone."""
    images, out = tmp_path / "images", tmp_path / "out"
    write_images(images, 3)
    (images / "._0.jpg").write_bytes(b"\0\5\x16\7")
    (images / "0" / "Thumbs.db").write_bytes(b"x")
    bad = Path(os.fsdecode(os.fsencode(images) + b"/caf\xe9.jpg"))
    shutil.copyfile(images / "0" / "00000.jpg", bad)
    command = ["predict-many", str(tiny_model_folder), "images", "--out", str(out), "--workers", "1"]
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    assert "caf\\udce9.jpg': its path is not UTF-8" in capsys.readouterr().err
    assert sum(row["error"] is None for row in rows_of(out)) == 3
    bad.unlink()
    assert main(command) == 0
    assert " 0 of them new" in capsys.readouterr().out
    photo = images / "0" / "00000.jpg"
    before, data = photo.stat(), bytearray(photo.read_bytes())
    data[-40] ^= 1
    photo.write_bytes(data)
    os.utime(photo, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.utime(images / "1" / "00000.png")
    (out / "labels" / "2" / "00000.jpg.png").unlink()
    assert main(command) == 0
    assert " 2 of them new" in capsys.readouterr().out
    (tmp_path / "elsewhere" / "images").mkdir(parents=True)
    write_images(tmp_path / "elsewhere" / "images", 3)
    monkeypatch.chdir(tmp_path / "elsewhere")  # a relative name means another folder here
    assert main(command) == 2
    assert (
        f"was predicted from {images}, now {tmp_path / 'elsewhere' / 'images'} is asked for" in capsys.readouterr().err
    )
