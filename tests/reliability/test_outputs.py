"""Outputs over inputs, over what a user made, and at places where nothing can be written: nothing is lost.

`FUZZ=1` draws more folders for `predict`; the seed is printed.
"""

import os
import random
import shutil
import stat
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("av", reason="the extra video is not installed")
import heteroseg
from heteroseg import writing
from heteroseg.cli.main import main
from heteroseg.datasets.encoding import write_image
from heteroseg.errors import HeterosegError
from heteroseg.inference.files import list_jobs
from heteroseg.writing import filling, require_apart, rewrite, written
from tests.reliability import SEED, WHOLE
from tests.reliability.test_output_kills import COMMANDS, places  # noqa: F401  # a fixture

FILES = {name: command.split()[-1] for name, command in COMMANDS.items() if command.endswith(("html", "json", "yaml"))}
FILES |= {"export onnx": "{W}/m.onnx", "export openvino": "{W}/m.xml", "data check": "{W}/skipped.txt"}
FOLDERS = [name for name, command in COMMANDS.items() if "{O}" in command]


def state(folder: Path) -> dict[str, tuple]:
    """Everything below a folder: what it is, where links lead, bytes."""
    result = {}
    for path in sorted(folder.rglob("*")):
        kind = stat.S_IFMT(path.lstat().st_mode)
        content = os.readlink(path) if stat.S_ISLNK(kind) else path.read_bytes() if stat.S_ISREG(kind) else None
        result[str(path.relative_to(folder))] = kind, content
    return result


def lay(path: Path, kind: str) -> None:
    """Put something that is no place for an output at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
        (path / "mine.txt").write_text("mine")
    elif kind == "loop":
        path.symlink_to(path.name + "2")
        path.with_name(path.name + "2").symlink_to(path.name)
    elif kind == "device":
        path.symlink_to("/dev/full")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to a file":
        path.with_name("other").write_text("mine")
        path.symlink_to("other")


def refused(command: list[str], folder: Path, capsys) -> str:
    before = state(folder)
    capsys.readouterr()
    try:
        code = main(command)
    except SystemExit as error:
        code = error.code
    said = capsys.readouterr().err
    assert code == 2, said
    assert state(folder) == before
    lines = [line for line in said.splitlines() if line.startswith("heteroseg")]
    assert len(lines) == 1, said
    assert "Traceback" not in said
    return said


KINDS = ["file", "folder", "loop", "device", "pipe", "link to a file"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FILES)
def test_a_file_is_not_written_over_what_is_no_own_file(places, tmp_path, capsys, name, kind):  # noqa: F811
    lay(Path(FILES[name].format(W=tmp_path)), kind)
    refused(COMMANDS[name].format(O=tmp_path / "out", W=tmp_path, **places).split(), tmp_path, capsys)


@pytest.mark.parametrize("kind", [*KINDS, "in a file"])
@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_is_not_filled_where_something_is(places, tmp_path, capsys, name, kind):  # noqa: F811
    out = tmp_path / "out"
    if kind == "in a file":
        out.write_text("mine")
        out = out / "deep"
    elif kind == "folder" and name in ("predict", "masks draw", "taxonomy import"):  # they go beside what is there
        for part in ("a.png", "v", "gtFine", "labels.yaml"):
            lay(out / part, "file")
    else:
        lay(out, kind)
    refused(COMMANDS[name].format(O=out, W=tmp_path, **places).split(), tmp_path, capsys)


@pytest.mark.parametrize("name", [n for n in FILES if n not in ("export onnx", "export openvino", "taxonomy suggest")])
def test_an_own_file_is_replaced_until_it_is_changed(places, tmp_path, capsys, name):  # noqa: F811
    file = Path(FILES[name].format(W=tmp_path))

    def again() -> list[str]:
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        return COMMANDS[name].format(O=tmp_path / "out", W=tmp_path, **places).split()

    assert main(again()) == 0
    assert main(again()) == 0
    with file.open("a") as stream:
        stream.write("and mine")
    assert "not any more, what heteroseg wrote" in refused(again(), tmp_path, capsys)


def test_weights_of_others_are_not_replaced(places, tmp_path, capsys):  # noqa: F811
    (tmp_path / "m.bin").write_text("mine")
    command = COMMANDS["export openvino"].format(W=tmp_path, **places).split()
    assert "m.bin: stands there" in refused(command, tmp_path, capsys)


@pytest.mark.parametrize("signed", ["attribute", "record"])
def test_what_heteroseg_wrote_is_known_again(tmp_path, monkeypatch, signed):
    if signed == "record":
        monkeypatch.delattr(os, "setxattr", raising=False)
        monkeypatch.delattr(os, "getxattr", raising=False)
    path = tmp_path / "a\nb.txt"
    rewrite(path, "one")
    rewrite(path, "two")
    rewrite(path, "")
    rewrite(path, "three")
    assert path.read_text() == "three"
    path.write_text("four")
    with pytest.raises(HeterosegError, match="not any more, what heteroseg wrote"):
        rewrite(path, "five")
    assert path.read_text() == "four"


FOUND = [
    "a.jpg",
    "a.png",
    "a.JPG",
    "b.png",
    "v.avi",
    "v.jpg",
    "v/000000.png",
    "v/x.jpg",
    "a.png/c.jpg",
    "a_overlay.jpg",
]
LEFT = ["a.json", "v.json", "b.txt", "v_overlay.webm", "b.json"]
LEFT += ["out/a.png", "out/a.json", "out/v", "out/b_overlay.jpg"]
LEFT += ["out/v/000000.png", "out/v.json", "v/000001.png"]
OUTS = ["out", ".", "v", "in", "in/v", "in/out", "link", "in/../in", "a.png", "out/deep/deeper"]


def some_folder(root: Path, draw: random.Random, image: bytes, video: bytes) -> None:
    """A folder `in` of images and videos, things beside them, and links."""
    for name in draw.sample(FOUND, draw.randint(1, 5)):
        put(root / "in" / name, video if name.endswith(".avi") else image)
    for name in draw.sample(LEFT, draw.randint(0, 5)):
        put(root / draw.choice(["", "in"]) / name, b"mine" if not name.endswith(("png", "jpg")) else image)
    if draw.random() < 0.5:
        (root / "link").symlink_to(draw.choice(["in", "nowhere", "link", "in/v", "/dev/null"]))
    if draw.random() < 0.3 and not (root / "out").exists():
        (root / "out").mkdir()
        (root / "out" / "a.png").symlink_to(draw.choice(["../in/b.png", "nowhere", "a.png"]))


def put(path: Path, data: bytes) -> None:
    if not any(p.is_file() for p in path.parents) and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@pytest.fixture(scope="module")
def pixels(places):  # noqa: F811
    return Path(places["I"], "a.png").read_bytes(), Path(places["I"], "v.avi").read_bytes()


def test_predict_loses_nothing_whatever_lies_there(pixels, tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(heteroseg, "load", lambda *_: tiny_model)
    draw, done = random.Random(SEED), [0, 0]
    for i in range(600 if WHOLE else 40):
        root = tmp_path / str(i)
        (root / "in").mkdir(parents=True)
        some_folder(root, draw, *pixels)
        inside = sorted(str(p) for p in (root / "in").rglob("*") if p.is_file())
        inputs = draw.choice([[str(root / "in")], draw.sample(inputs := inside, draw.randint(1, len(inputs)))])
        command = ["predict", "M", *inputs, "--out", str(root / draw.choice(OUTS)), *["--overlay"] * draw.randint(0, 1)]
        before = state(root)
        code = main(command)
        said, after = capsys.readouterr(), state(root)
        assert {n: after.get(n) for n in before} == before, (command, said.err)
        assert code == 0 or (code == 2 and "heteroseg: " in said.err), (command, said.err)
        if code == 0:  # again, after what it wrote was worked on
            new = [
                root / n for n in after.keys() - before.keys() if n.endswith((".png", ".jpg")) and (root / n).is_file()
            ]
            for path in new:
                path.write_bytes(b"mine")
            if new and (one := draw.choice(new)):
                one.unlink()
            kept = {p: p.read_bytes() for p in new if p.exists()}
            main([*command, "--overlay"])
            assert {p: p.read_bytes() for p in kept} == kept, command
        assert not list(root.rglob(".part-*"))
        done[code == 0] += 1
        shutil.rmtree(root)
    print(f"COUNT predict over inputs: {done[1]} done, {done[0]} refused, nothing lost")


@pytest.mark.parametrize(
    "names",
    [
        ["a.jpg", "a.png"],
        ["v.mp4", "v.jpg"],
        ["v.mp4", "v/000000.png"],
        ["v.mp4", "v/deep/x.jpg"],
        ["a.jpg", "a.png/b.jpg"],
        ["v.json.mp4", "v.jpg"],
        ["v.png.mp4", "v.jpg"],
    ],
)
def test_two_inputs_of_one_output(tmp_path, names):
    for name in names:
        put(tmp_path / "in" / name, b"x")
    with pytest.raises(HeterosegError, match="would both be written to"):
        list_jobs([tmp_path / "in"], tmp_path / "out")


@pytest.mark.parametrize("names", [["a.jpg", "A.jpg"], ["\u00fc.jpg", "u\u0308.jpg"], ["s/a.jpg", "S/a.jpg"]])
def test_names_that_a_disk_takes_for_one(tmp_path, monkeypatch, names):
    for name in names:
        put(tmp_path / "in" / name, b"x")
    assert len(list_jobs([tmp_path / "in"], tmp_path / "out")) == 2  # this disk does not
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(writing, "_are_one", lambda folder, first, second: True)
    with pytest.raises(HeterosegError, match="would be one file on the disk of"):
        list_jobs([tmp_path / "in"], tmp_path / "out")
    require_apart(tmp_path, ["a", "b", "a"])


def test_a_name_leads_nowhere_else(places, tmp_path, capsys):  # noqa: F811
    root = tmp_path / "set"
    for name in ("images/a.png", "outside.png", "masks/a.png", "masks2/outside.png"):
        write_image(root / name, np.zeros((8, 8, 3), np.uint8))
    (root / "train.txt").write_text("../outside\n")
    text = (
        "name: e\ntaxonomy: streets-108\ndatasets:\n  a: {root: set, reader: folder, label_space: cityscapes, val: null"
    )
    text += ", options: {images: 'images/{name}.png', masks: 'masks/{name}.png', list: '{split}.txt'}}\n"
    (tmp_path / "e.yaml").write_text(text)
    refused(["data", "show", str(tmp_path / "e.yaml"), "--out", str(tmp_path / "o")], tmp_path, capsys)


@pytest.mark.parametrize(
    ("umask", "file", "folder"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700), (0o002, 0o664, 0o775)]
)
def test_rights_follow_the_umask(places, tmp_path, umask, file, folder):  # noqa: F811
    before = os.umask(umask)
    try:
        for name in ("share", "predict", "evaluate", "export openvino", "export onnx"):
            work = tmp_path / name.replace(" ", "")
            assert main(COMMANDS[name].format(O=work / "out", W=work, **places).split()) == 0
    finally:
        os.umask(before)
    for path in tmp_path.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (folder if path.is_dir() else file), path


def test_names_that_are_no_text(pixels, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(heteroseg, "load", lambda *_: tiny_model)
    root = tmp_path / os.fsdecode(b"caf\xe9")
    root.mkdir()
    (root / os.fsdecode(b"\xff.png")).write_bytes(cv2.imencode(".png", np.zeros((16, 16, 3), np.uint8))[1].tobytes())
    assert main(["predict", "M", str(root), "--out", str(root / "out"), "--overlay"]) == 0
    names = [os.fsencode(p.name) for p in (root / "out").iterdir()]
    assert sorted(names) == [b"\xff.json", b"\xff.png", b"\xff_overlay.jpg"]
    (root / "v.avi").write_bytes(pixels[1])
    assert main(["predict", "M", str(root / "v.avi"), "--out", str(root / "out"), "--overlay"]) == 0
    assert len(list((root / "out" / "v").iterdir())) == 2
    assert (root / "out" / "v_overlay.webm").stat().st_size


def test_two_that_write_one_file(tmp_path):
    path, open_now, go_on = tmp_path / "a.txt", threading.Event(), threading.Event()

    def slow() -> None:
        with written(path) as part:
            part.write_text("first")
            open_now.set()
            go_on.wait(20)

    thread = threading.Thread(target=slow)
    thread.start()
    open_now.wait(20)
    with pytest.raises(HeterosegError, match="another process is writing this file"):
        writing.write_bytes(path, b"second")
    go_on.set()
    thread.join()
    assert path.read_text() == "first"
    writing.write_bytes(path, b"second")
    assert state(tmp_path) == {"a.txt": (stat.S_IFREG, b"second")}


def test_a_temporary_name_that_is_taken(tmp_path):
    (tmp_path / "mine").write_text("mine")
    writing.part_of(tmp_path / "a.txt").symlink_to("mine")
    with pytest.raises(HeterosegError, match="cannot be written"):
        writing.write_bytes(tmp_path / "a.txt", b"x")
    assert (tmp_path / "mine").read_text() == "mine"
    long = tmp_path / f"{'x' * 240}.png"
    writing.write_bytes(long, b"x")
    assert long.read_bytes() == b"x"


def test_a_folder_that_another_command_fills(tmp_path):
    def stop() -> None:
        with filling(tmp_path / "o", {"command": "one"}):
            (tmp_path / "o" / "begun").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    with pytest.raises(HeterosegError, match="holds what a stopped command began, with other inputs or options"):
        filling(tmp_path / "o", {"command": "two"}).__enter__()
    with filling(tmp_path / "o", {"command": "one"}):
        assert (tmp_path / "o" / "begun").exists()
    assert state(tmp_path / "o").keys() == {"begun"}
    with pytest.raises(HeterosegError, match="no reason"), filling(tmp_path / "new", {"command": "one"}):
        raise HeterosegError("no reason")
    assert not (tmp_path / "new").exists()
