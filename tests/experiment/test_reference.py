"""The reference of the experiment file is whole and true: every key, and every default as the models have it."""

import re
from pathlib import Path

import yaml
from pydantic import BaseModel

from heteroseg.experiment import config
from heteroseg.experiment.config import Experiment
from heteroseg.experiment.reference import config_text

PAGE = Path(__file__).parents[2] / "docs" / "experiment.md"
MODELS = [m for m in vars(config).values() if isinstance(m, type) and issubclass(m, config.Strict) and m.model_fields]


def page(text: str) -> str:
    """The page with every block made anew: the keys of a block are those that its first lines name."""

    def block(old: re.Match) -> str:
        return "```yaml\n" + "".join(config_text(key) for key in yaml.safe_load(old[1])) + "```"

    return re.sub(r"```yaml\n(.*?)```", block, text, flags=re.DOTALL)


def test_every_key_has_a_meaning():
    for model in MODELS:
        assert model.__doc__
        for key, field in model.model_fields.items():
            section = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
            assert section or field.description, f"{model.__name__}.{key}"


def test_the_text_is_an_experiment_with_all_defaults():
    written = Experiment.model_validate(yaml.safe_load(config_text()))
    assert {key: text for key in Experiment.model_fields if (text := config_text(key)) not in config_text()} == {}
    for key in ("model", "loss", "optimiser", "train", "augment", "evaluate"):
        assert getattr(written, key) == type(getattr(written, key))()
        assert getattr(written, key).model_fields_set == type(getattr(written, key)).model_fields.keys()


def test_the_page_is_what_the_command_prints():
    text = PAGE.read_text(encoding="utf-8")
    assert page(text) == text, "python -m tests.experiment.test_reference writes it anew"
    assert [key for key in Experiment.model_fields if f"\n{key}:" not in text] == []


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
