"""Odd paths on the command line and in experiments: one sentence, exit 2, and nothing is written."""

from pathlib import Path

import pytest

from heteroseg.cli.main import main
from heteroseg.errors import HeterosegError
from heteroseg.model.model import Model, load
from heteroseg.writing import home_expanded

NOBODY = "~nobody-of-this-name/x"


def refused(capsys, *words: str) -> str:
    try:
        code = main([*words])
    except SystemExit as end:  # argparse
        code = end.code
    assert code == 2
    told = capsys.readouterr().err.strip()
    assert "Traceback" not in told
    return told


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("", "found an empty one"),
        ("-", "found '-'"),
        (NOBODY, "a user's folder that this machine does not know"),
        ("a\0b", "a sign that no path has"),
        ("itself", ""),
        ("itself/x", ""),
        ("nowhere/", ""),
    ],
)
def test_odd_words_are_one_sentence(tmp_path, monkeypatch, capsys, word, told):
    monkeypatch.chdir(tmp_path)
    Path("itself").symlink_to("itself")
    Path("photo.jpg").write_bytes(b"")
    for command in (
        ("predict", word, "photo.jpg", "--out", "out"),
        ("predict", "nowhere", word, "--out", "out"),
        ("train", word, "--out", "out"),
        ("data", "check", word),
        ("taxonomy", "check", word),
        ("report", word),
        ("share", word, "--out", "out"),
        ("export", word, "--format", "onnx", "--out", "x.onnx"),
    ):
        said = refused(capsys, *command)
        assert told in said
        assert len(said.splitlines()) == 1, said
    if word in ("", "-", NOBODY, "a\0b"):
        for option in (["--out", word], [f"--out={word}"]):
            assert told in refused(capsys, "predict", "nowhere", "photo.jpg", *option)
    assert {path.name for path in tmp_path.iterdir()} == {"itself", "photo.jpg"}


def test_the_home_of_the_user_is_known(tiny_model_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tiny_model_folder.parent))
    assert home_expanded("~/a") == tiny_model_folder.parent / "a"
    assert load("~/model").name == Model.from_pretrained("~/model").name == "tiny"
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SystemExit):
        main(["predict", "nowhere", "x.jpg", "--out="])
    load(tiny_model_folder).save_pretrained("~/saved")
    assert (tmp_path / "saved" / "config.json").is_file()


def test_unknown_users_and_nul_in_an_experiment(tiny_experiment, tmp_path, capsys):
    for key in ("data_root", "datasets.vistas.root"):
        for value in (NOBODY, '"a\\0b"'):
            told = refused(capsys, "data", "check", str(tiny_experiment), f"{key}={value}")
            assert "expected a path, found" in told or "without control characters" in told
    with pytest.raises(HeterosegError, match="expected a path, found"):
        load(NOBODY)
