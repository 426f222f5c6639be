"""The command line and Python as people use and mistype them: one sentence for every mistake, never a traceback.

`make fuzz` tries 2,000 and more inputs, `make test` some, with a seed that is printed.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

import heteroseg
from heteroseg.scenes import generate
from tests.conftest import EXPERIMENT
from tests.reliability import SEED, WHOLE
from tests.reliability.mistakes import (
    array,
    ask,
    call,
    command_line,
    experiment_text,
    fill_folder,
    question,
    with_override,
)

BAD = ("TRACEBACK", "HANG")


@pytest.fixture(scope="module")
def at(tmp_path_factory, tiny_model_folder) -> Iterator[Path]:
    """A folder with an experiment, a run, and things that are none of these."""
    at = tmp_path_factory.mktemp("use")
    (at / "here").mkdir()
    before = os.getcwd()
    os.chdir(at / "here")  # names that are mistyped are relative ones
    generate(at / "data", 2, 1, (64, 128), seed=5)
    (at / "e.yaml").write_text(EXPERIMENT.format(root=at / "data"))
    (at / "run").mkdir()
    (at / "run" / "best").symlink_to(tiny_model_folder)
    (at / "run" / "last").symlink_to(tiny_model_folder)
    Image.fromarray(np.zeros((32, 48, 3), np.uint8)).save(at / "photo.png")
    (at / "names.csv").write_text("id,name\n0,car\n1,sky\n")
    for name in ("folder", "empty", "blobs"):
        (at / name).mkdir()
    Image.fromarray(np.zeros((32, 48), np.uint8)).save(at / "folder" / "a.png")
    for name in ("text.txt", "broken.png", "void.yaml", "void.json"):
        (at / name).write_text("words\n" * (name == "text.txt"))
    (at / "list.yaml").write_text("[a, b]\n")
    (at / "circle").symlink_to(at / "circle")
    os.mkfifo(at / "pipe")
    assert call(["evaluate", str(at / "run"), "--data", str(at / "e.yaml")], 600)[0] == "ok"  # loops are compiled now
    assert call(["predict", str(at / "run"), str(at / "photo.png"), "--out", str(at / "out")], 600)[0] == "ok"
    yield at
    os.chdir(before)


def tell(kind: str, found: list[tuple[object, tuple[str, str]]]) -> None:
    """Print the counts, and fail where something ended as nothing should."""
    print(f"{kind}, SEED={SEED}: {dict(Counter(outcome for _, (outcome, _) in found))}")
    for line, (outcome, told) in found:
        if outcome not in ("ok", "refused"):
            print(f"{outcome}: {str(line)[:300]!a}: {told[:600]!a}")
    assert not [line for line, (outcome, _) in found if outcome in BAD]
    assert sum(outcome == "vague" for _, (outcome, _) in found) <= len(found) // 200


MUST_BE_REFUSED = [
    *(f"train.seed={value}" for value in (-1, 2**32, 1.5, "true", ".inf", "null", "x", "9" * 5000)),
    *(f"train.steps={value}" for value in (0, -1, 2**31, 1.5, "true", "", "[]", "{}", "1e30", ".nan")),
    *(f"train.batch={value}" for value in (0, -1, 2**14 + 1, "false")),
    *(
        f"train.crop={value}"
        for value in ("[65536, 65536]", "[0, 64]", "[64]", "[64, 64, 64]", "64", "[64, -64]", "[63, 64]")
    ),
    *(f"optimiser.lr={value}" for value in (0, -1, "1e30", ".inf", ".nan", "x")),
    *(f"optimiser.{key}" for key in ("momentum=1", "power=-1", "warmup=-1", "clip=-1", "name=x", "weight_decay=.inf")),
    *(f"datasets.gtsdb.{key}" for key in ("share=.inf", "share=0", "share=-1", "scale=[2, 0.5]", "flip=2", "rare=-1")),
    *(f"datasets.gtsdb.{key}=''" for key in ("root", "reader", "label_space", "train")),
    *(f"loss.{key}" for key in ("cell=1e22", "cell=0", "weights={default: 0}", "weights={root: -1}", "weights={x: 1}")),
    *(f"loss.{key}" for key in ("class_weights={x: 1}", "class_weights={gtsdb/stop: -1}", "balance=2", "gate=x")),
    *(
        f"model.{key}"
        for key in ("width=0", "width=1e9", "stride=3", "scale=0", "scale=0.37", "backbone=''", "decoder=x")
    ),
    *(f"model.backbone_options.{key}" for key in ("nothing=1", "depth=[1]", "depths=x", "depths=", "hidden_sizes=")),
    *(f"model.backbone_options.{key}" for key in ("embedding_size=true", "embedding_size=-8", "layer_type=x")),
    *(
        "name=",
        "name='a/b'",
        "taxonomy=''",
        "taxonomy=x",
        "hold_out=[x]",
        "train={steps: 1, steps: 2}",
        "trian.steps=1",
    ),
    *(
        "evaluate.decision=x",
        "train.accelerator=x",
        "train.precision=8",
        "datasets={}",
        "model=3",
        "a.b.c=1",
        "=1",
        "x",
    ),
]


@pytest.mark.parametrize("override", MUST_BE_REFUSED, ids=lambda override: override[:40])
def test_what_must_be_refused(at, tmp_path, override):
    outcome, told = call(["train", str(at / "e.yaml"), "--out", str(tmp_path / "o"), "train.steps=1", override])
    assert outcome == "refused", f"{'SILENT' if outcome == 'ok' else outcome}: {told}"
    assert not (tmp_path / "o").exists()


def test_the_folder_in_which_one_is_is_no_name(at):
    assert call(["demo", "--out", ".", "train.steps=nothing"])[0] == "refused"  # was a traceback


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "x" * 5000 + ".onnx"], ids=["long", "NUL", "long export"])
def test_names_that_no_file_has(tiny_model, name):
    for asked in (tiny_model.predict, heteroseg.load, heteroseg.load_experiment, heteroseg.load_taxonomy):
        assert ask(lambda asked=asked: asked(name))[0] == "refused"  # were tracebacks, or sentences of 5,000 signs


def test_arrays_of_odd_layouts(tiny_model):
    assert ask(lambda: tiny_model.predict(np.zeros((1, 1, 3), np.uint8)[::-1]).labels("leaves")) == ("ok", "")
    for empty in (np.zeros((0, 8, 3), np.uint8), Image.new("RGB", (8, 0)), Image.new("L", (0, 8))):
        assert ask(lambda empty=empty: tiny_model.predict(empty))[0] == "refused"


def test_a_name_that_a_model_cannot_have(tiny_model, tmp_path):
    outcome, told = ask(lambda: replace(tiny_model, name="a/b").save_pretrained(tmp_path / "m"))
    assert (outcome, told.partition(": expected")[0]) == ("refused", "model 'a/b': name")


def test_command_lines(at, tmp_path):
    rng, found = Random(SEED), []
    for i in range(600 if WHOLE else 30):
        line = command_line(rng, at, str(tmp_path / f"o{i}"))
        found.append((line, call(line)))
    tell("command lines", found)


def test_overrides(at, tmp_path):
    rng, found = Random(SEED + 1), []
    for i in range(600 if WHOLE else 25):
        line = with_override(rng, at, str(tmp_path / f"o{i}"))
        found.append((line, call(line)))
    tell("overrides", found)


def test_experiments(at, tmp_path):
    rng, found, text = Random(SEED + 2), [], (at / "e.yaml").read_text()
    path = tmp_path / "e.yaml"
    for _ in range(600 if WHOLE else 30):
        path.write_text(damaged := experiment_text(rng, text), errors="surrogatepass")
        found.append((damaged, call(["data", "check", str(path)])))
    tell("experiments", found)


def several(answer):
    return answer if isinstance(answer, list) else [answer]


def test_arrays(tiny_model):
    rng, found = Random(SEED + 3), []
    for _ in range(400 if WHOLE else 60):
        image = array(rng)
        form = getattr(image, "shape", getattr(image, "mode", ""))
        found.append(
            (
                f"{type(image).__name__} {getattr(image, 'dtype', '')} {form}",
                ask(lambda image=image: [p.labels("leaves") for p in several(tiny_model.predict(image))]),
            )
        )
    tell("arrays", found)


def test_questions(tiny_model):
    rng, found = Random(SEED + 4), []
    for i in range(200 if WHOLE else 30):
        found.append((i, ask(question(rng, tiny_model))))
    tell("questions", found)


def test_folders(at, tmp_path):
    rng, found = Random(SEED + 5), []
    for i in range(150 if WHOLE else 12):
        fill_folder(rng, tmp_path / f"f{i}")
        there = sorted(p.name for p in (tmp_path / f"f{i}").iterdir())
        line = ["predict", str(at / "run"), str(tmp_path / f"f{i}"), "--out", str(tmp_path / f"o{i}")]
        found.append((there, call(line)))
    tell("folders", found)
