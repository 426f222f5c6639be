"""What the annotation of a run teaches and what it leaves untaught is told before training."""

import html
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from heteroseg import load_experiment, train
from heteroseg.cli.main import main
from heteroseg.errors import HeterosegError
from heteroseg.experiment.sources import Source, open_sources
from heteroseg.supervision import coverage
from heteroseg.supervision.coverage import count_split, look_over
from heteroseg.training import loop
from tests.conftest import TINY

TREE = "name: t\ntree: {root: [sky, ground, thing], thing: [car, sign]}\n"
SPACE = """name: s
taxonomy: tree.yaml
labels:
  - {id: 0, name: void, ignore: true}
  - {id: 1, name: sky, nodes: sky}
  - {id: 2, name: ground, nodes: ground}
  - {id: 3, name: car, nodes: car}
  - {id: 4, name: sign, nodes: sign}
"""
EXPERIMENT = """name: e
taxonomy: tree.yaml
datasets:
  d: {root: ., reader: folder, label_space: space.yaml, train: %s, val: %s,
      options: {images: "{split}/{name}.jpg", masks: "masks/{split}/{name}.png"%s}}
model: %s
train: {steps: 1, batch: 1, crop: [64, 64], workers: 0, accelerator: cpu}
"""


def write(
    root: Path, images: dict[str, tuple[str, ...]], of: dict[str, np.ndarray] | None = None, more: str = ""
) -> Path:
    """An experiment of the images of each split, and the masks of all of them: `of` by name, else all labels."""
    rng = np.random.default_rng(0)
    for split, names in images.items():
        for folder in (split, f"masks/{split}"):
            (root / folder).mkdir(parents=True)
        for name in names:
            cv2.imwrite(str(root / split / f"{name}.jpg"), rng.integers(0, 255, (32, 40, 3), np.uint8))
            mask = (of or {}).get(name, np.repeat([1, 2, 3, 4], 10)[None].repeat(32, 0))
            cv2.imwrite(str(root / "masks" / split / f"{name}.png"), mask.astype(np.uint8))
    (root / "tree.yaml").write_text(TREE)
    (root / "space.yaml").write_text(SPACE)
    (root / "experiment.yaml").write_text(
        EXPERIMENT % ("train", "val" if "val" in images else "null", more, json.dumps(TINY))
    )
    return root / "experiment.yaml"


def opened(path: Path) -> list[Source]:
    return open_sources(*load_experiment(path))


def test_sound_data_is_silent(tmp_path, capsys):
    path = write(tmp_path, {"train": ("a", "b"), "val": ("c",)})
    assert look_over(opened(path)) == []
    train(*load_experiment(path), tmp_path / "run")
    assert "warning" not in capsys.readouterr().err
    assert not (tmp_path / "run" / "skipped.txt").exists()


def test_labels_and_leaves_that_nothing_teaches(tmp_path):
    half = np.repeat([0, 1, 2, 3], 10)[None].repeat(32, 0)  # no sign, a quarter ignored
    path = write(tmp_path, {"train": ("a", "b", "c")}, dict.fromkeys("abc", half))
    assert look_over(opened(path)) == ["d train: no pixel, box or tag has 'sign'", "nothing teaches 'sign'"]
    (source,) = opened(path)
    assert count_split(source, "train", most=2).where == " in the 2 of 3 masks that were looked at"
    assert count_split(source, "train", most=2).occurring.tolist() == [False, True, True, True, False]


def test_large_ignored_parts(tmp_path):
    mask = np.repeat([0, 0, 3, 4], 10)[None].repeat(32, 0)
    path = write(tmp_path, {"train": ("a",)}, {"a": mask})
    assert look_over(opened(path))[0] == "d train: 50% of the pixels are ignored; nothing teaches what they are"


def test_a_val_split_without_labels_is_told_beside_the_score(tmp_path, capsys):
    path = write(tmp_path, {"train": ("a",), "val": ("b",)}, {"b": np.zeros((32, 40), int)})
    main(["train", str(path), "--out", str(tmp_path / "run")])
    main(["evaluate", str(tmp_path / "run"), "--data", str(path)])
    told = capsys.readouterr().out
    assert told.count("warning: d: expected val pixels of labels that are scored, found none in 1 image") == 2
    assert told.count("(100.0 % of all)") == 2


def test_a_split_without_annotation_is_a_fault(tmp_path):
    path = write(tmp_path, {"train": ("a", "b")})
    path.write_text(path.read_text().replace(', masks: "masks/{split}/{name}.png"', ""))
    with pytest.raises(
        HeterosegError, match=r"datasets\.d: expected a mask, shape, box or tag .* found none in 2 images"
    ):
        train(*load_experiment(path), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def overlapping(tmp_path) -> Path:
    """An experiment whose val image is a link to a train image, with a mask of its own."""
    path = write(tmp_path, {"train": ("a", "b"), "val": ("c",)})
    (tmp_path / "val" / "c.jpg").unlink()
    (tmp_path / "val" / "c.jpg").symlink_to(tmp_path / "train" / "a.jpg")
    return path


@pytest.mark.parametrize("command", ["train", "compare"])
def test_val_images_that_are_trained_on_are_a_fault(overlapping, command, tmp_path, capsys):
    if command == "compare":
        pytest.importorskip("matplotlib", reason="the extra plots is not installed")
    assert main([command, str(overlapping), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert f"found 1 that are, such as {tmp_path}/val/c.jpg, which is {tmp_path}/train/a.jpg in train of d" in told
    assert "say --allow-overlap" in told


def test_allowed_overlap_is_a_warning_told_once(overlapping, tmp_path, capsys):
    main(["train", str(overlapping), "--out", str(tmp_path / "run"), "--allow-overlap"])
    told = capsys.readouterr().err
    assert told.count("warning: datasets.d: expected val images that are not trained on") == 1
    main(["train", str(overlapping), "--out", str(tmp_path / "run"), "--resume"])  # what was allowed stays so
    page = (tmp_path / "run" / "report.html").read_text()
    assert "expected val images that are not trained on" in page
    main(["evaluate", str(tmp_path / "run"), "--data", str(overlapping), "--report", str(tmp_path / "page.html")])
    assert capsys.readouterr().err.count("warning: datasets.d: expected val images") == 2  # resumed, and evaluated


def test_what_is_skipped_is_listed(tmp_path, capsys):
    path = write(tmp_path, {"train": ("a", "b"), "val": ("c",)}, more=', boxes: "boxes.csv", skip_faulty: "true"')
    rows = ["image,x1,y1,x2,y2,class_id", "a,1,1,9,9,3", "b,5,5,5,9,3", "c,5,5,9,9,x"]
    (tmp_path / "boxes.csv").write_text("\n".join(rows) + "\n")
    main(["train", str(path), "--out", str(tmp_path / "run")])
    told = capsys.readouterr().err
    lines = (tmp_path / "run" / "skipped.txt").read_text().splitlines()
    assert ["boxes.csv:3" in line or "boxes.csv:4" in line for line in lines] == [True, True]
    assert told.count("warning: d: faulty annotation is left out") == 1
    for command in (["data", "check"], ["data", "show", "--out", str(tmp_path / "shown")]):
        main([*command, str(path), "--skipped", str(tmp_path / "list.txt")])
        assert (tmp_path / "list.txt").read_text().splitlines() == lines
        (tmp_path / "list.txt").unlink()
        assert capsys.readouterr().err.count("warning: d: faulty annotation is left out") == 1
    main(["evaluate", str(tmp_path / "run"), "--data", str(path)])
    assert capsys.readouterr().err.count("warning: d: faulty annotation is left out (skip_faulty)") == 1


def test_a_comparison_tells_it_once(tmp_path, capfd):
    pytest.importorskip("matplotlib", reason="the extra plots is not installed")
    half = np.repeat([0, 1, 2, 3], 10)[None].repeat(32, 0)
    path = write(tmp_path, {"train": ("a",), "val": ("b",)}, {"a": half})
    main(["compare", str(path), "--out", str(tmp_path / "out"), "--ways", "hierarchical,flat"])
    assert capfd.readouterr().err.count("warning: nothing teaches 'sign'") == 1


def test_the_same_stands_beside_the_scores(tmp_path, capsys):
    """After training up to 1,000 masks are looked at: here one alone that was not has a sign, and none has a car."""
    names, half = [f"n{i:02d}" for i in range(60)], np.repeat([0, 0, 1, 2], 10)[None].repeat(32, 0)
    masks = dict.fromkeys([*names, "v"], half) | {"n03": np.where(half == 0, 4, half)}
    path = write(tmp_path, {"train": tuple(names), "val": ("v",)}, masks)
    assert main(["train", str(path), "--out", str(tmp_path / "run")]) == 0
    before, after = capsys.readouterr()[::-1]
    assert (
        "warning: d train: no pixel, box or tag has 'car', 'sign' in the 50 of 60 masks that were looked at" in before
    )
    told = [
        "warning: d val: 50% of the pixels are ignored; no score tells how they are answered",
        "warning: d train: 49% of the pixels are ignored; nothing teaches what they are",
        "warning: d train: no pixel, box or tag has 'car'",
        "warning: nothing teaches 'car'",
    ]
    assert [line for line in after.splitlines() if line.startswith("warning: ")] == told
    kept = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert [f"warning: {w}" for w in kept["warnings"] + kept["training_warnings"]] == told
    page = html.unescape((tmp_path / "run" / "report.html").read_text())
    assert all(line.removeprefix("warning: ") in page for line in told)
    assert "50 of 60" not in page
    table = tmp_path / "table.json"
    assert main(["evaluate", str(tmp_path / "run"), "--data", str(path), "--json", str(table)]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")] == told
    again = json.loads(table.read_text())
    assert (again["warnings"], again["training_warnings"]) == (kept["warnings"], kept["training_warnings"])


def test_not_all_masks_are_decoded_at_the_end(tmp_path, monkeypatch):
    """Vistas has 18,000, which took many minutes."""
    names = [f"n{i}" for i in range(9)]
    path, decoded, real = write(tmp_path, {"train": tuple(names), "val": ("v",)}), [], coverage.read_annotation
    monkeypatch.setattr(coverage, "read_annotation", lambda item, scoring: decoded.append(item) or real(item, scoring))
    monkeypatch.setattr(loop, "AFTERWARDS", 4)
    train(*load_experiment(path), tmp_path / "run")
    assert len(decoded) == 9 + 4  # before, and after


def test_of_large_masks_fewer_are_decoded_at_the_end(tmp_path, monkeypatch):
    """1,000 masks of Vistas are 8,000 megapixels, minutes of work."""
    names = [f"n{i:02d}" for i in range(60)]
    path, decoded, real = write(tmp_path, {"train": tuple(names), "val": ("v",)}), [], coverage.read_annotation
    monkeypatch.setattr(coverage, "read_annotation", lambda item, scoring: decoded.append(item) or real(item, scoring))
    monkeypatch.setattr(coverage, "PIXELS", 55 * 32 * 40 + 1)
    train(*load_experiment(path), tmp_path / "run")
    monkeypatch.setattr(coverage, "PIXELS", 1)
    look_over(opened(path), most=1000)
    assert len(decoded) == 50 + 55 + 50


def test_a_mask_that_was_never_drawn_spoils_no_finished_run(tmp_path):
    names = [f"n{i:02d}" for i in range(60)]
    path = write(tmp_path, {"train": tuple(names), "val": ("v",)})
    (tmp_path / "masks" / "train" / "n03.png").write_bytes(b"no image")
    result = train(*load_experiment(path), tmp_path / "run")
    assert result["training_warnings"] == []
