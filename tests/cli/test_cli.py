"""The command line: what it prints and writes, and one sentence with exit code 2 for every bad use."""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from heteroseg.cli.main import build_parser, main
from heteroseg.training.batches import TrainingDraws


@pytest.fixture
def run(capsys):
    """Run a command in this process: exit code, stdout, stderr."""

    def call(*args) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main([str(a) for a in args])
        except SystemExit as stop:  # argparse
            code = stop.code
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def image(tmp_path) -> Path:
    path = tmp_path / "image.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8))
    return path


def commands(parser, words=()) -> list[tuple[str, ...]]:
    """Every command and group of commands, as words."""
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    below = [commands(p, (*words, name)) for group in groups for name, p in group.choices.items()]
    return [words, *(command for part in below for command in part)]


def test_help_imports_nothing_heavy():
    every = commands(build_parser())
    assert len(every) > 20
    code = f"""
import sys
from heteroseg.cli.main import build_parser, main
for arguments in {[[*words, "--help"] for words in every] + [["--version"], ["nonsense"], ["train"]]}:
    try:
        main(arguments)
    except SystemExit:
        pass
heavy = ("torch", "transformers", "cv2", "lightning_fabric", "numpy", "matplotlib", "heteroseg.model.model")
print("loaded:", [m for m in heavy if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("loaded: []")
    for command in ("taxonomy", "data", "train", "evaluate", "predict", "demo"):
        assert command in done.stdout


@pytest.mark.parametrize("words", commands(build_parser())[1:], ids=" ".join)
def test_help_begins_with_what_a_command_does(words, run):
    code, out, _ = run(*words, "--help")
    assert code == 0
    does = " ".join(out.split("\n\n")[1].split())
    assert does[0].isupper()
    assert does.endswith(".")
    assert not does.startswith("usage")


def test_the_bare_name_prints_the_help(run):
    code, out, err = run()
    assert (code, err) == (0, "")
    assert out == run("--help")[1]


def test_config_prints_a_section_that_is_an_experiment_again(run):
    code, out, _ = run("config", "train")
    assert code == 0
    assert yaml.safe_load(out)["train"]["steps"] == 1000
    assert "# batches to train on (whole number above 0" in out


def test_init_writes_files_that_the_other_commands_read(run, tmp_path):
    folder = tmp_path / "mine"
    code, out, err = run("init", folder)
    assert (code, err) == (0, "")
    assert f"heteroseg data check {folder / 'experiment.yaml'}" in out
    assert run("taxonomy", "check", *(folder / f"{name}.yaml" for name in ("tree", "parks", "signs")))[0] == 0
    code, _, err = run("data", "check", folder / "experiment.yaml")
    assert code == 2
    assert "expected this folder" in err  # only the data are missing
    before = {path: path.read_text() for path in folder.iterdir()}
    assert len(before) == 4
    code, _, err = run("init", folder)
    assert code == 2
    assert "expected a new or empty folder" in err
    assert {path: path.read_text() for path in folder.iterdir()} == before


# ---- taxonomy ----

FAULTY_TREE = "name: t\ntree:\n  root: [a, b, b]\n  c: [d, e]\n"
FAULTY_LABELS = """\
name: s
taxonomy: streets-108
labels:
  - {id: 1, name: x, nodes: raod}
  - {id: 1, name: y, nodes: sky}
"""


def test_taxonomy_check_of_sound_files(run):
    code, out, err = run("taxonomy", "check", "streets-108", "cityscapes", "gtsdb")
    assert (code, err) == (0, "")
    tree, city, signs = out.splitlines()
    assert "107 leaves" in tree
    assert "111 logits" in tree
    assert "streets-108" in city
    assert "45 labels (43 mapped, 0 unions, 2 ignored)" in signs


def test_taxonomy_check_tells_all_faults_of_all_files(run, tmp_path):
    tree, labels = tmp_path / "tree.yaml", tmp_path / "labels.yaml"
    tree.write_text(FAULTY_TREE)
    labels.write_text(FAULTY_LABELS)
    code, out, err = run("taxonomy", "check", tree, "streets-108", labels)
    assert code == 2
    assert out.startswith("streets-108: taxonomy")  # the sound one is told too
    places = [(f"{tree}:3", "'b' stands twice"), (f"{tree}:4", "'c' is an orphan")]
    places += [(f"{labels}:4", "did you mean 'road'?"), (f"{labels}:5", "id 1 of 'y' is already the id of 'x'")]
    lines = err.splitlines()
    assert len(lines) == 4
    for place, said in places:
        assert any(line.startswith(f"heteroseg: {place}: ") and said in line for line in lines), (place, lines)


def test_taxonomy_show(run):
    code, out, _ = run("taxonomy", "show", "streets-108")
    assert code == 0
    lines = {line.strip().split("  ")[0]: line for line in out.splitlines()}
    assert "classifier 0: 53 classes" in lines["root"]
    assert lines["sky"].startswith("  sky  [")
    assert lines["p_limit_20"].startswith("    ")  # a child stands below its parent
    code, out, _ = run("taxonomy", "show", "cityscapes")
    assert code == 0
    assert any(line.split() == ["23", "sky", "sky"] for line in out.splitlines())
    assert "(ignored)" in out


# ---- data ----


def test_data_check_counts(run, tiny_experiment):
    code, out, err = run("data", "check", tiny_experiment)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    for name, split, images in (("cityscapes", "train", 4), ("vistas", "val", 2), ("gtsdb", "train", 4)):
        assert any(line.startswith(f"{name} {split}: {images} images, ") for line in lines)
    assert any(line.startswith("cityscapes val: 2 images, ") and " boxes" not in line for line in lines)
    assert any(line.startswith("gtsdb train: ") and line.endswith(" boxes") for line in lines)
    assert lines[-1] == "all sound"


def test_data_check_names_every_bad_file(run, tiny_data, tiny_experiment, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(tiny_data, root)
    masks = sorted((root / "cityscapes").rglob("train/**/*_labelIds.png"))
    cv2.imwrite(str(masks[0]), np.full((64, 128), 200, np.uint8))  # no such id
    cv2.imwrite(str(masks[1]), np.zeros((64, 100), np.uint8))  # another size
    photo = sorted((root / "vistas").rglob("*.jpg"))[0]
    photo.write_bytes(photo.read_bytes()[:300])  # cut off
    scoring = sorted((root / "gtsdb").rglob("*_labelIds.png"))[0]
    scoring.write_bytes(b"")  # only needed to score
    code, out, err = run("data", "check", tiny_experiment, f"data_root={root}")
    assert code == 2
    assert "all sound" not in out
    lines = err.splitlines()
    assert len(lines) == 4
    for path, said in (
        (masks[0], "found 200"),
        (masks[1], "one size, found 128x64 and 100x64"),
        (photo, "cut off or damaged"),
        (scoring, "found an empty file"),
    ):
        assert sum(str(path) in line and said in line for line in lines) == 1, (path, lines)


# ---- train, evaluate, predict ----

TOP = {"label_space", "images", "miou", "macc", "acc", "strict_miou", "per_class"}


def fraction(value) -> bool:
    return value is None or (isinstance(value, float) and 0 <= value <= 1)


def check_scores(data: dict, images: int) -> None:
    """The format that the issue fixes; what `summarise` adds may stand beside it."""
    assert list(data) == ["datasets", "warnings", "training_warnings"]
    assert list(data["datasets"]) == ["cityscapes", "vistas", "gtsdb"]
    for d in data["datasets"].values():
        assert set(d) - {"levels", "decided", "unlabelled", "confusion", "per_image"} == TOP
        assert len(d["per_image"]) == images
        assert d["images"] == images
        assert all(fraction(d[key]) for key in ("miou", "macc", "acc"))
        for scores in d["per_class"].values():
            assert set(scores) == {"iou", "acc", "pixels"}
            assert type(scores["pixels"]) is int
            assert fraction(scores["iou"])
            assert fraction(scores["acc"])
            assert (scores["iou"] is None) == (scores["acc"] is None) == (scores["pixels"] == 0)
        present = [c["iou"] for c in d["per_class"].values() if c["pixels"]]
        assert d["miou"] == (pytest.approx(np.mean(present)) if present else None)


def test_evaluate_prints_a_table_and_writes_json(run, tiny_model_folder, tiny_experiment, tmp_path):
    file = tmp_path / "new" / "scores.json"
    code, out, err = run("evaluate", tiny_model_folder, "--data", tiny_experiment, "--json", file)
    assert code == 0
    data = json.loads(file.read_text())
    check_scores(data, images=2)
    classes = data["datasets"]["cityscapes"]["per_class"]
    assert classes["road"]["pixels"] > 0
    assert any(c["pixels"] == 0 for c in classes.values())
    head, *rows = out.splitlines()
    assert head.split()[:6] == ["dataset", "labels", "images", "mIoU", "macc", "acc"]
    assert [row.split()[:3] for row in rows] == [[n, n, "2"] for n in ("cityscapes", "vistas", "gtsdb")]
    assert float(rows[0].split()[3]) == pytest.approx(100 * data["datasets"]["cityscapes"]["miou"], abs=0.051)
    assert "evaluating gtsdb" in err


def test_what_lies_beside_a_model_is_no_matter_of_its_scores(run, tiny_model_folder, tiny_experiment, tmp_path):
    shutil.copytree(tiny_model_folder, tmp_path / "model")
    (tmp_path / "evaluation.json").write_text("[]")  # of another tool
    code, _, said = run("evaluate", tmp_path / "model", "--data", tiny_experiment, "--limit", "1")
    assert code == 0, said


def test_a_trained_model_lives_without_its_data(run, tiny_data, tiny_experiment, image, tmp_path, monkeypatch):
    data, folder = tmp_path / "data", tmp_path / "run"
    shutil.copytree(tiny_data, data)
    experiment = tmp_path / "experiment.yaml"
    shutil.copy(tiny_experiment, experiment)
    code, out, _ = run("train", experiment, f"data_root={data}", "--out", folder, "train.steps=1")
    assert code == 0
    assert out.splitlines()[-1] == f"run: {folder} (MODEL: {folder}/best and {folder}/last)"
    check_scores(json.loads((folder / "evaluation.json").read_text()), images=2)
    scores = tmp_path / "scores.json"
    args = ("--limit", "1", f"data_root={data}", "--json", scores)
    assert run("evaluate", folder, "--data", experiment, *args)[0] == 0
    check_scores(json.loads(scores.read_text()), images=1)
    for last in ("best", "last"):
        elsewhere = tmp_path / "elsewhere" / last
        shutil.copytree(folder / last, elsewhere)
    shutil.rmtree(data)
    shutil.rmtree(folder)
    experiment.unlink()
    monkeypatch.chdir(tmp_path / "elsewhere")
    code, out, _ = run("predict", "best", image, "--out", "signs", "--labels", "gtsdb", "--overlay")
    assert code == 0
    assert out == "1 input in signs, ids of label space 'gtsdb'\n"
    names = {p.name for p in Path("signs").iterdir()}
    assert names == {"image.png", "image.json", "image_overlay.jpg"}
    told = "1 input in predictions, ids of label space 'leaves'; --overlay adds pictures\n"
    assert run("predict", "last", image)[1] == told


# ---- bad use ----


@pytest.fixture
def places(tiny_model_folder, tiny_experiment, image, tmp_path) -> dict:
    """What the arguments of a bad command are filled with."""
    full = tmp_path / "full"
    full.mkdir()
    (full / "something").write_text("x")
    text = tiny_experiment.read_text().replace("taxonomy: streets-108", "taxonomy: streets-real")
    text = text.replace("label_space: gtsdb", "label_space: gtsdb-real")
    for space in ("cityscapes", "vistas"):
        text = text.replace(f"label_space: {space}", "label_space: camvid32, train: null, val: null")
    (tmp_path / "other.yaml").write_text(text)
    (tmp_path / "faulty.yaml").write_text(tiny_experiment.read_text().replace("width:", "widht:"))
    (tmp_path / "text.jpg").write_text("no picture")
    folders = {"T": tmp_path, "O": tmp_path / "out", "FULL": full}
    return folders | {"M": tiny_model_folder, "E": tiny_experiment, "I": image}


BAD = [
    ("config nothing", "expected one of name, taxonomy"),
    ("nonsense", "invalid choice: 'nonsense'"),
    ("taxonomy", "required: ACTION"),
    ("taxonomy check", "required: FILE"),
    ("taxonomy check streets-108 --strict", "unknown argument '--strict'"),
    ("taxonomy check nowhere.yaml", "nowhere.yaml: cannot be read"),
    ("taxonomy show", "required: FILE"),
    ("taxonomy show streets-18", "did you mean 'streets-108'?"),
    ("taxonomy show {E}", "expected a taxonomy (key 'tree') or a label space (key 'labels'), found neither"),
    ("data", "required: ACTION"),
    ("data check", "required: EXPERIMENT"),
    ("data check nowhere.yaml", "nowhere.yaml: cannot be read"),
    ("data check {E} steps", "'steps': expected key=value"),
    ("data check {T}/faulty.yaml", "did you mean 'width'?"),
    ("data check {E} datasets.gtsdb.root={T}/none", "expected this folder"),
    ("data check {E} datasets.gtsdb.reader=gtdb", "did you mean 'gtsdb'?"),
    ("data check {E} datasets.gtsdb.label_space=gtsbd", "did you mean 'gtsdb'?"),
    ("data check {E} --fast", "unknown argument '--fast'"),
    ("train", "required: EXPERIMENT, --out"),
    ("train {E}", "required: --out"),
    ("train nowhere.yaml --out {O}", "nowhere.yaml: cannot be read"),
    ("train {E} --out {O} --resme=1", "unknown argument '--resme=1'"),
    ("train {E} --out {O} train.stps=3", "train.stps=3: train.stps: there is no such key; did you mean 'steps'?"),
    ("train {E} --out {FULL}", "found something in it; continue it with --resume or choose another --out"),
    ("train {E} --out {I}", "expected a new or empty folder, found a file"),
    ("train {E} --out {O} --resume", "there is nothing to resume"),
    ("train {E} --out {O} train.batch=2", "train.batch: 2 images cannot hold one of each of the 3"),
    ("train {E} --out {O} train.crop=[61,64]", "train.crop: expected multiples"),
    ("evaluate", "required: MODEL, --data"),
    ("evaluate {M}", "required: --data"),
    ("evaluate {M} --data nowhere.yaml", "nowhere.yaml: cannot be read"),
    ("evaluate {T}/none --data {E}", "expected a MODEL folder"),
    ("evaluate {FULL} --data {E}", "found another folder"),
    ("evaluate {M} --data {E} --limit 0", "expected a whole number from 1, found '0'"),
    ("evaluate {M} --data {E} --limit 99999999999999999999", "expected a whole number from 1, found '9999"),
    ("evaluate {M} --data {E} --back-off nan", "expected a number from 0 to 1, found 'nan'"),
    ("serve {M} --max-seconds 1e300", "expected a number above 0, to 1000000, found '1e300'"),
    ("bench --preset fast --threads 1000000", "expected a whole number from 1 to 1024, found '1000000'"),
    ("bench --preset fast --size 9999999999x5", "expected HEIGHTxWIDTH such as 520x706, each to 16384"),
    ("evaluate {M} --data {E} --limit many", "expected a whole number from 1, found 'many'"),
    ("evaluate {M} --data {T}/other.yaml", "belongs to taxonomy 'streets-real', the model to 'streets-108'"),
    ("evaluate {M} --data {E} --limit 1 --json {FULL}", "expected a file to write, found a folder"),
    ("evaluate {M} --data {E} --device nonsense", "device 'nonsense' cannot be used"),
    ("predict", "required: MODEL, INPUT"),
    ("predict {M} --out {O}", "required: INPUT"),
    ("predict {M} {I} --out {O} --lables vistas", "unknown argument '--lables'"),
    ("predict {M} {T}/none.jpg --out {O}", "none.jpg: expected an image, a video or a folder"),
    ("predict {M} {I} --out {I}", "expected a folder for the predictions, found a file"),
    ("predict {M} {I} --out {T}", "image.png: a prediction would replace this input"),
    ("predict {M} {T}/text.jpg --out {O}", "text.jpg: expected an image, found a file that is cut off or damaged"),
    ("predict {FULL} {I} --out {O}", "found another folder"),
    ("predict {M} {I} --out {O} --labels vista", "no label space 'vista'; did you mean 'vistas'?"),
    ("predict {M} {I} --out {O} --labels none.yaml", "none.yaml: cannot be read"),
    ("predict {M} {I} --out {O} --device nonsense", "device 'nonsense' cannot be used"),
    ("predict {M} {I} --out {O} --device cuda:77", "device 'cuda:77' cannot be used"),
    ("demo --fast", "unknown argument '--fast'"),
]


@pytest.mark.parametrize(("command", "said"), BAD, ids=[command or "nothing" for command, _ in BAD])
def test_bad_use_is_one_sentence(run, places, command, said):
    code, _, err = run(*(word.format(**places) for word in command.split()))
    lines = [
        line for line in err.splitlines() if not line.startswith("evaluating ") and f": {places['O']}/" not in line
    ]
    assert code == 2
    assert "Traceback" not in err
    assert len(lines) == 1, err
    assert lines[0].startswith("heteroseg")
    assert said in lines[0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_no_gpu_is_told_with_what_there_is(run, places):
    _, _, err = run("predict", places["M"], places["I"], "--out", places["O"], "--device", "cuda")
    assert err.startswith("heteroseg: device 'cuda' cannot be used, ")
    assert err.endswith("; this machine has cpu\n")


def test_stopped_by_the_user(run, tiny_experiment, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainingDraws, "__getitem__", stop)
    code, _, err = run("train", tiny_experiment, "--out", tmp_path / "run")
    assert code == 130
    told = (
        f"heteroseg: stopped at step 0; {tmp_path / 'run'} is whole as of step 0; the same command with --resume goes"
    )
    assert told in err
    assert "Traceback" not in err


def test_a_reader_that_has_enough():
    """`heteroseg taxonomy show ... | head -1`"""
    command = f"{sys.executable} -m heteroseg taxonomy show streets-108"
    show = subprocess.Popen(command.split(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    show.stdout.close()
    assert show.stderr.read() == b""
    assert show.wait() == 141
