"""The page about datasets: what it names is there, and its options are those of the readers."""

import re
from inspect import signature
from pathlib import Path

import pytest
import yaml

from heteroseg.datasets import READERS
from heteroseg.experiment.config import DatasetConfig
from tests.labels.test_specs import SPACES

PAGE = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text()
BLOCK = yaml.safe_load(re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1])


def test_every_reader_and_label_space_is_on_the_page():
    assert [name for name in READERS if f"`{name}`" not in PAGE] == []
    assert [n for n in SPACES if f"`{n}`" not in PAGE and not n.startswith("idd-level")] == []


@pytest.mark.parametrize("name", BLOCK)
def test_the_options_are_those_of_the_readers(name):
    config = DatasetConfig.model_validate(BLOCK[name])
    assert set(config.options) <= set(signature(READERS[config.reader]).parameters)
    assert config.label_space in SPACES or config.label_space.endswith(".yaml")
    assert all(isinstance(value, str) for value in config.options.values())
