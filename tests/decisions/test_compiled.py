"""Compiled loops are kept on disk where that works; where it does not, they are compiled, and one line tells it."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import heteroseg

CODE = (
    "import torch; from heteroseg.decisions import kernels_path; "
    "from heteroseg.decisions.exact import decode; from heteroseg.decisions.plan import plan_decode; "
    "from heteroseg.labels.taxonomy import load_taxonomy; t = load_taxonomy('streets-real'); "
    "decode(torch.zeros(1, t.channels, 2, 2), (8, 8), (8, 8), plan_decode(t)); "
    "s = kernels_path.path_band.stats; print(sum(s.cache_hits.values()), sum(s.cache_misses.values()))"
)


def decoded(path: Path = Path(heteroseg.__file__).parents[1], most: int = -1, **settings: str) -> tuple[list[str], str]:
    """Of a process that decodes: the hits and misses of its cache, and what it says; no file gets more than `most`."""
    known = {k: v for k, v in os.environ.items() if k not in ("HOME", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    env = known | {"PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"} | settings
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env=env,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split(), done.stderr


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """A cache that a process has filled."""
    folder = tmp_path_factory.mktemp("cache")
    assert decoded(NUMBA_CACHE_DIR=str(folder)) == (["0", "1"], "")
    return folder


def test_a_second_process_finds_the_compiled_loops(kept):
    """The loops are compiled once on a machine, not once in a process."""
    assert decoded(NUMBA_CACHE_DIR=str(kept)) == (["1", "0"], "")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def changed(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 8  # in the machine code of the larger files
    path.write_bytes(data)


@pytest.mark.parametrize(("ending", "damage"), [("nbi", emptied), ("nbi", cut), ("nbc", cut), ("nbc", changed)])
def test_damaged_files_are_compiled_again(kept, tmp_path, ending, damage):
    folder = shutil.copytree(kept, tmp_path / "cache")
    for path in folder.rglob(f"*path_band*.{ending}"):
        damage(path)
    found, said = decoded(NUMBA_CACHE_DIR=str(folder))
    assert found == ["0", "1"]
    assert said.count("\n") == 1
    assert "the compiled loops cannot be read or kept there" in said
    assert decoded(NUMBA_CACHE_DIR=str(folder)) == (["1", "0"], ""), "whole ones have taken their place"


def test_a_full_disk(tmp_path):
    found, said = decoded(NUMBA_CACHE_DIR=str(tmp_path), most=0)
    assert found == ["0", "1"]
    assert said.count("\n") == 1
    assert said.startswith(f"warning: {tmp_path}")


def test_no_folder_at_all(tmp_path):
    """Neither a home nor a package that can be written."""
    package = tmp_path / "package" / "heteroseg"
    shutil.copytree(Path(heteroseg.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "decisions" / "__pycache__").write_text("a file, where not even root makes a folder")
    (tmp_path / "home").write_text("")
    _, said = decoded(package.parent, HOME=str(tmp_path / "home"))
    assert said.count("\n") == 1
    assert "NUMBA_CACHE_DIR names another folder" in said
