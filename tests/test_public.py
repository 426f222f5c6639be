"""The public API is named once, and `import heteroseg` stays quick."""

import os
import subprocess
import sys

import pytest

import heteroseg


@pytest.mark.parametrize("name", heteroseg.__all__)
def test_every_public_name_is_there_and_says_what_it_is(name):
    assert getattr(heteroseg, name).__doc__
    assert name in dir(heteroseg)


def test_importing_the_package_imports_nothing_heavy():
    code = "import heteroseg, sys; print(*{'torch', 'numpy', 'transformers', 'pydantic'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


@pytest.mark.parametrize(("given", "found"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_threads_that_wait_take_no_core_from_others(given, found):
    """Set before torch comes, which reads it once; beside one busy process a step took fifteen times as long."""
    known = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    code = "import heteroseg, os, sys; print(os.environ.get('OMP_WAIT_POLICY')); "
    code += "heteroseg.train; assert 'torch' in sys.modules; print(os.environ['OMP_WAIT_POLICY'])"
    done = subprocess.run([sys.executable, "-c", code], env=known | given, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(given.get("OMP_WAIT_POLICY")), found]


def test_an_unknown_name_is_told():
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        heteroseg.lode  # noqa: B018


def test_the_package_is_the_command():
    run = subprocess.run([sys.executable, "-m", "heteroseg", "--version"], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == f"heteroseg {heteroseg.__version__}"
