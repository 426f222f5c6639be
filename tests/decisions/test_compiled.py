"""Compiled loops are kept on disk where that works; where it does not, they are compiled, and one line tells it."""

import os
import resource
import shutil
import stat
import subprocess
import sys
import time
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


def decoded(
    path: Path = Path(heteroseg.__file__).parents[1], most: int = -1, before: str = "", **settings: str
) -> tuple[list[str], str]:
    """Of a process that decodes: the hits and misses of its cache, and what it says.

    No file gets more than `most` bytes; the code `before` is run first.
    """
    known = {k: v for k, v in os.environ.items() if k not in ("HOME", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    env = known | {"PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"} | settings
    done = subprocess.run(
        [sys.executable, "-c", before + CODE],
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


@pytest.mark.parametrize("damage", [emptied, cut, changed])
def test_damaged_files_are_compiled_again(kept, tmp_path, damage):
    folder = shutil.copytree(kept, tmp_path / "cache")
    for path in folder.rglob("*path_band*"):
        damage(path)
    found, said = decoded(NUMBA_CACHE_DIR=str(folder))
    assert found == ["0", "1"]
    assert said.count("\n") == 1
    assert "the compiled loops cannot be read or kept there" in said
    assert decoded(NUMBA_CACHE_DIR=str(folder)) == (["1", "0"], ""), "whole ones have taken their place"


LOOP = """
from heteroseg.decisions.compiled import kernel

@kernel()
def double(x):
    for i in range(x.size):
        x[i] *= 2
"""
FILES = "from numba.core.caching import IndexDataCacheFile as Files\n"
BEFORE_THE_OTHER = FILES + "Files._load_index = lambda self: {}"
WRITES_LAST = (
    FILES
    + """
import time; from pathlib import Path; save = Files._save_data
def late(*what):
    Path("waits").touch()
    while not Path("go").exists():
        time.sleep(0.01)
    save(*what)
Files._save_data = late
"""
)


def test_two_processes_that_compile_for_two_types_at_once(tmp_path):
    """Each had the number of its file from an index without the other, and both had one: code for the wrong type."""
    (tmp_path / "loop.py").write_text(LOOP)
    env = os.environ | {"PYTHONPATH": f"{Path(heteroseg.__file__).parents[1]}:.", "NUMBA_CACHE_DIR": str(tmp_path)}

    def started(before: str, *kinds: str) -> subprocess.Popen[str]:
        each = "".join(f"x = numpy.ones(3, '{kind}'); double(x); print(x.sum()); " for kind in kinds)
        code = f"{before}\nimport numpy; from loop import double; {each} print(sum(double.stats.cache_hits.values()))"
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=env, **pipes)  # type: ignore[call-overload,no-any-return]

    slow = started(WRITES_LAST, "f4")
    while slow.poll() is None and not (tmp_path / "waits").exists():
        time.sleep(0.01)
    assert started(BEFORE_THE_OTHER, "i8").communicate(timeout=300)[0].split() == ["6", "0"]
    (tmp_path / "go").touch()
    assert slow.communicate(timeout=300)[0].split() == ["6.0", "0"]
    assert started("", "i8", "f4").communicate(timeout=300)[0].split() == ["6", "6.0", "2"]


def test_a_full_disk(tmp_path):
    found, said = decoded(NUMBA_CACHE_DIR=str(tmp_path), most=0)
    assert found == ["0", "1"]
    assert said.count("\n") == 1
    assert said.startswith(f"warning: {tmp_path}")


def unwritable(tmp_path: Path) -> tuple[Path, str]:
    """Where a package lies, and a home, in which not even root can make a folder."""
    package, home = tmp_path / "package" / "heteroseg", tmp_path / "home"
    shutil.copytree(Path(heteroseg.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "decisions" / "__pycache__").write_text("a file")
    home.write_text("")
    return package.parent, str(home)


def test_a_read_only_home_is_compiled_for_once(tmp_path):
    """Not at each start, which was so."""
    at, home = unwritable(tmp_path)
    (tmp_path / "tmp").mkdir()
    assert decoded(at, HOME=home, TMPDIR=str(tmp_path / "tmp")) == (["0", "1"], "")
    assert decoded(at, HOME=home, TMPDIR=str(tmp_path / "tmp")) == (["1", "0"], "")
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "tmp").iterdir()} == {0o700}


@pytest.mark.parametrize("kind", ["open to others", "a link"])
def test_a_temporary_folder_of_somebody_else_is_not_used(tmp_path, kind):
    """What lies there is run."""
    (at, home), folder = unwritable(tmp_path), tmp_path / "tmp" / f"heteroseg-{os.getuid()}"
    folder.parent.mkdir()
    (tmp_path / "theirs").mkdir(0o700)
    folder.symlink_to(tmp_path / "theirs") if kind == "a link" else folder.mkdir()
    folder.chmod(0o700 if kind == "a link" else 0o777)
    _, said = decoded(at, HOME=home, TMPDIR=str(folder.parent))
    assert "NUMBA_CACHE_DIR names another folder" in said
    assert not list(folder.iterdir())


def test_a_package_that_was_compiled_by_another_user(tmp_path):
    """As in a container whose maker has called it once: nothing can be written, and nothing has to be."""
    package = tmp_path / "package" / "heteroseg"
    shutil.copytree(Path(heteroseg.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "home").write_text("")
    before = "from numba.core.caching import InTreeCacheLocator as I\ndef no(self): raise OSError\n"
    before += "I.ensure_cache_path = no\n"
    assert decoded(package.parent, HOME=str(tmp_path)) == (["0", "1"], "")
    assert decoded(package.parent, before=before, HOME=str(tmp_path / "home")) == (["1", "0"], "")


def test_no_folder_at_all(tmp_path):
    """Neither a home nor a package nor a folder for temporary files that can be written."""
    at, home = unwritable(tmp_path)
    _, said = decoded(at, before=f"import tempfile; tempfile.tempdir = {home!r}; ", HOME=home)
    assert said.count("\n") == 1
    assert "NUMBA_CACHE_DIR names another folder" in said
