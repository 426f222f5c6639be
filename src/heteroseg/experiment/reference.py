"""What a user begins with: files to fill in, and every key of an experiment as YAML with comments, from the models."""

import json
import re
import textwrap
from pathlib import Path
from typing import Any

from heteroseg.experiment.config import Experiment
from heteroseg.files import SPECS, read_text, write_text
from heteroseg.writing import filling

WORDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}
BOUNDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "up to", "exclusiveMaximum": "below"}
WIDTH = 110  # of a comment


def _kind(schema: dict[str, Any]) -> str:
    """What values a key takes, in words, by its JSON schema."""
    if "anyOf" in schema:
        return " or ".join(map(_kind, schema["anyOf"]))
    if choices := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return "one of " * (len(choices) > 1) + ", ".join(choices)
    if schema["type"] == "array":
        parts = schema.get("prefixItems")
        return f"list of {len(parts)}, each a {_kind(parts[0])}" if parts else f"list, each a {_kind(schema['items'])}"
    if schema["type"] == "object":
        inner = schema.get("additionalProperties", True)
        return "keys and values" if inner is True else f"keys, each with a {_kind(inner)}"
    bounds = (f"{say} {schema[key]:.10g}" for key, say in BOUNDS.items() if key in schema)
    return " ".join([WORDS[schema["type"]], *bounds])


def _yaml(value: Any) -> str:
    """A default as YAML on one line."""
    plain = isinstance(value, str) and re.fullmatch(r"[a-zA-Z][\w.-]*", value)
    return str(value) if plain else json.dumps(value)


def _entry(comment: str, line: str, below: str = "") -> str:
    told = textwrap.indent(textwrap.fill(comment, WIDTH), "# ")
    return f"{told}\n{line}\n{textwrap.indent(below, '  ')}"


def _block(schema: dict[str, Any], known: dict[str, Any]) -> str:
    """The keys of a model as YAML; `known` are the schemas of the models inside, by their references."""
    told = []
    for key, part in schema["properties"].items():
        named = part.get("additionalProperties")
        if inner := known.get((named if isinstance(named, dict) else part).get("$ref", "")):
            below = _block(inner, known)
            below = _entry(part["description"], f"{part['examples'][0]}:", below) if named else below
            told.append(_entry(inner["description"].partition("\n")[0], f"{key}:", below))
        elif "default" in part:
            told.append(_entry(f"{part['description']} ({_kind(part)})", f"{key}: {_yaml(part['default'])}"))
        else:
            told.append(_entry(f"{part['description']} ({_kind(part)}; required)", f"{key}: {part['examples'][0]}"))
    return "".join(told)


def config_text(section: str | None = None) -> str:
    """The whole experiment file, or one of its keys, with every default; what has to be given is an example.

    Examples:
        >>> print(config_text("evaluate"))
        # How the network answers.
        evaluate:
          # marginal: the label of the largest probability; path: down the larger child (one of path, marginal)
          decision: marginal
        <BLANKLINE>
    """
    schema = Experiment.model_json_schema(ref_template="{model}")
    keys = schema["properties"]
    return _block({"properties": keys if section is None else {section: keys[section]}}, schema["$defs"])


def write_beginning(folder: Path) -> None:
    """Write an experiment with its tree and label spaces, to be filled in, to a new or empty folder."""
    with filling(folder, {"command": "init"}):
        for file in (SPECS / "init").iterdir():
            write_text(folder / file.name, read_text(file))
