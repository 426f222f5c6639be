"""Every command that writes, killed or out of room at a file operation and given again, ends as if nothing had been.

Not `train` and `compare`, which have suites of their own. `FUZZ=1` tries every operation, else a few of each command.
The batches of `predict-many` are done in the process that is stopped, because Ray's processes are not ours to count;
with Ray itself it is stopped in `tests/inference/test_collection.py`.
"""

import csv
import shutil
import signal
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("av", reason="the extra video is not installed")
from heteroseg.cli.main import main
from heteroseg.writing import AT_WORK, alone
from tests.reliability import SEED, WHOLE
from tests.reliability.kills import KILLED, attempt, chosen

EXPERIMENT = """\
name: tiny
taxonomy: streets-108
data_root: {root}
datasets:
  cityscapes: {{root: cityscapes, reader: cityscapes, label_space: cityscapes}}
  gtsdb: {{root: gtsdb, reader: gtsdb, label_space: gtsdb}}
model:
  backbone: hf:resnet
  backbone_options: {{embedding_size: 8, hidden_sizes: [8, 8, 16, 16], depths: [1, 1, 1, 1], layer_type: basic}}
  width: 16
train: {{steps: 1, batch: 2, crop: [64, 64], workers: 0, accelerator: cpu}}
"""
DATED = (".html", ".json", ".onnx", ".xml", ".bin")
"""Files that tell the date or are never the same twice, so that only their being there and whole is compared."""


@pytest.fixture(scope="module")
def places(tmp_path_factory, tiny_model_folder) -> dict[str, str]:
    """What the commands take: a MODEL, data, images, a video, a list of labels, confirmed regions, a RUN."""
    from heteroseg.scenes import generate

    root = tmp_path_factory.mktemp("places")
    generate(root / "data", 1, 1, (64, 128), seed=5)
    (root / "e.yaml").write_text(EXPERIMENT.format(root=root / "data"))
    (root / "in").mkdir()
    images = np.random.default_rng(0).integers(0, 255, (3, 48, 64, 3), np.uint8)
    cv2.imwrite(str(root / "in" / "a.png"), images[0])
    cv2.imwrite(str(root / "in" / "b.png"), images[1])
    writer = cv2.VideoWriter(str(root / "in" / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for image in images[1:]:
        writer.write(image)
    writer.release()
    (root / "labels.csv").write_text("id,name\n0,road\n1,sky\n2,car\n")
    found = {"M": str(tiny_model_folder), "E": str(root / "e.yaml"), "I": str(root / "in")}
    found |= {"L": str(root / "labels.csv"), "B": str(root / "blobs"), "R": str(root / "run")}
    assert main(COMMANDS["blobs find"].format(O=root / "blobs", **found).split()) == 0
    with (root / "blobs" / "blobs.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    with (root / "blobs" / "blobs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *([*row[:-1], "yes"] for row in rows)])
    assert main(["train", found["E"], "--out", found["R"], "--no-warnings"]) == 0
    return found


COMMANDS = {
    "relabel": "relabel {M} --data {E} --dataset cityscapes --labels vistas --confidence 0.3 --out {O}",
    "blobs find": "blobs find {E} --dataset cityscapes --label road --labels leaves --model {M} --least 1 --out {O}",
    "blobs apply": "blobs apply {E} --blobs {B} --out {O}",
    "masks draw": "masks draw {E} --dataset gtsdb --out {O}",
    "data show": "data show {E} --out {O}",
    "data check": "data check {E} --skipped {W}/skipped.txt",
    "data audit": "data audit {E} --out {O}",
    "share": "share {M} --out {O}",
    "calibrate": "calibrate {M} --data {E} --out {O} --json {W}/figures.json",
    "export onnx": "export {M} --format onnx --out {W}/m.onnx",
    "export openvino": "export {M} --format openvino --out {W}/m.xml",
    "predict": "predict {M} {I} --out {O} --overlay",
    "predict-many": "predict-many {M} {I} --out {O} --batch 1",
    "evaluate": "evaluate {M} --data {E} --json {W}/figures.json --report {W}/page.html",
    "report": "report {R} --out {W}/page.html",
    "taxonomy import": "taxonomy import {L} --out {O}",
    "taxonomy suggest": "taxonomy suggest {L} --taxonomy streets-108 --out {W}/draft.yaml",
    "bench": "bench {M} --runtime torch --size 32x64 --repeats 1 --json {W}/figures.json",
}
AGAIN = ("stands there already", "expected a new or empty folder")  # a command that had ended, but for its last words


def command(name: str, places: dict[str, str], work: Path) -> list[str] | tuple:
    words = COMMANDS[name].format(O=work / "out", W=work, **places).split()
    if name != "predict-many":
        return words
    pytest.importorskip("ray.data", reason="the extra ray is not installed")
    return without_ray, words


def without_ray(words: list[str]) -> None:
    """`predict-many` whose batches are done here, one after the other."""
    from heteroseg.inference import collection

    def run(items, job, workers, batch, address, as_stored):
        label = collection.Labeller(*job, 1, as_stored)
        for i in range(0, len(items), batch):
            label({key: np.array([item[key] for item in items[i : i + batch]]) for key in collection.ITEM})

    collection._run = run
    raise SystemExit(main(words))


def tree(folder: Path) -> dict[str, bytes | bool]:
    """All files below, links and hidden ones too."""
    files = {str(p.relative_to(folder)): p for p in folder.rglob("*") if not p.is_dir()}
    return {n: p.stat().st_size > 0 if p.suffix in DATED else p.read_bytes() for n, p in sorted(files.items())}


@pytest.fixture(scope="module")
def whole(places, tmp_path_factory):
    """For a command the number of its operations, and what it writes when nothing stops it."""

    @cache
    def done(name: str) -> tuple[int, dict[str, bytes | bool]]:
        work = tmp_path_factory.mktemp("whole")
        ended = attempt(command(name, places, work), work)
        assert ended.code == 0, ended.output
        return len(ended.operations), tree(work)

    return done


@pytest.mark.parametrize("how", ["before", "after", "full", "short"])
@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_stopped_ends_the_same_when_it_is_given_again(places, whole, tmp_path, name, how):
    work = tmp_path / "work"
    work.mkdir()
    operations, expected = whole(name)
    bad, points = [], chosen(operations, few=1)
    for at in points:
        shutil.rmtree(work)
        work.mkdir()
        stopped = attempt(command(name, places, work), work, at, how)
        where = f"{how} {at}: {(stopped.operations or ['-'])[min(at, len(stopped.operations)) - 1]}"
        if how in ("before", "after"):
            if stopped.code not in (KILLED, 0):
                bad.append(f"{where}: {stopped.code} {stopped.output}")
        elif stopped.code and (stopped.code != 2 or "Traceback" in stopped.output or len(faults(stopped)) != 1):
            bad.append(f"{where}: {stopped.code} {stopped.output}")
        again = attempt(command(name, places, work), work)
        complete = again.code == 2 and any(told in again.output for told in AGAIN)
        if (again.code and not complete) or tree(work) != expected:
            differ = {n for n in tree(work).keys() | expected.keys() if tree(work).get(n) != expected.get(n)}
            bad.append(f"{where}: again {again.code} {again.output[-300:]} {sorted(differ)}")
    print(f"COUNT {name} {how}: {len(points) - len(bad)} of {len(points)}")
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize("name", COMMANDS)
def test_what_a_signal_stops_leaves_nothing_half(places, whole, tmp_path, name):
    """It is told in one sentence, only what is whole is there, and the same command goes on."""
    operations, expected = whole(name)
    bad, points = [], chosen(operations, few=1)
    for at in points:
        signals = [signal.SIGHUP, signal.SIGTERM, signal.SIGINT]
        for number in signals if WHOLE else [signals[(at + int(SEED)) % 3]]:
            work = tmp_path / f"{at}-{number}"
            work.mkdir()
            stopped = attempt(command(name, places, work), work, at, number)
            where = f"{signals} {at}: {(stopped.operations or ['-'])[min(at, len(stopped.operations)) - 1]}"
            left = {name for name, content in tree(work).items() if content != expected.get(name)}
            left = {name for name in left if not name.endswith((AT_WORK, ".json"))}  # of a video begun
            if stopped.code and (stopped.code != 128 + number or len(faults(stopped)) != 1 or left):
                bad.append(f"{where}: {stopped.code} {sorted(left)} {stopped.output}")
            again = attempt(command(name, places, work), work)
            complete = again.code == 2 and any(told in again.output for told in AGAIN)
            if (again.code and not complete) or tree(work) != expected:
                bad.append(f"{where}: again {again.code} {again.output[-300:]}")
    print(f"COUNT {name}: {len(points)}")
    assert not bad, "\n".join(bad)


FOLDERS = ["relabel", "blobs find", "blobs apply", "masks draw", "data show", "data audit", "share", "predict-many"]


@pytest.mark.parametrize("name", [*FOLDERS, "train", "compare", "train --resume"])
def test_two_processes_in_one_folder(places, tmp_path, capsys, monkeypatch, name):
    """The second is refused in one sentence, and leaves all to the first."""
    monkeypatch.setitem(COMMANDS, "train", "train {E} --out {O}")
    monkeypatch.setitem(COMMANDS, "compare", "compare {E} --out {O}")
    monkeypatch.setitem(COMMANDS, "train --resume", "train {E} --out {R} --resume")
    words = command(name, places, tmp_path)
    words = words[-1] if isinstance(words, tuple) else words
    out = Path(words[words.index("--out") + 1])
    with alone(out):
        before = tree(out)
        assert main(words) == 2
        assert tree(out) == before
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("heteroseg: ")]
    assert told == [f"heteroseg: {out}: another process is at work in this folder; wait until it has ended"]


def faults(ended) -> list[str]:
    return [line for line in ended.sentences if line.startswith("heteroseg: ")]
