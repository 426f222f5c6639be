"""What the suites on files from strangers share."""

from pathlib import Path

import numpy as np
import pytest

from heteroseg.model.model import save_model
from tests.reliability.forging import answer, small_model


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """The folder of a small MODEL."""
    folder = tmp_path_factory.mktemp("small") / "model"
    save_model(small_model(), folder)
    return folder


@pytest.fixture(scope="session")
def before(model) -> np.ndarray:
    """What it answers."""
    found = answer(model)
    assert len(np.unique(found)) > 3
    return found
