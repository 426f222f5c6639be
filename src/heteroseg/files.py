"""Reading what users write (YAML that remembers its lines) and writing without ever leaving half a file."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from heteroseg.errors import HeterosegError, nearest

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Document:
    """A parsed YAML file; `lines` gives the line number of every key and list item by its path.

    What did not come from the file has a text in `lines` that says where it came from.
    """

    path: Path
    data: Any
    lines: dict[tuple, int | str] = field(default_factory=dict)

    def where(self, *loc) -> str:
        """`file:line` of the deepest part of `loc` that stands in the file."""
        for end in range(len(loc), -1, -1):
            if loc[:end] in self.lines:
                line = self.lines[loc[:end]]
                return line if isinstance(line, str) else f"{self.path}:{line}"
        return str(self.path)

    def parse(self, model: type[Model]) -> Model:
        """Validate the document; every fault becomes one sentence with file and line."""
        try:
            return model.model_validate(self.data)
        except ValidationError as error:
            faults = []
            for e in error.errors():
                key = ".".join(str(k) for k in e["loc"]) or "the file"
                said = e["msg"].removeprefix("Value error, ")
                if e["type"] == "extra_forbidden":
                    said = f"there is no such key{nearest(str(e['loc'][-1]), _known_keys(model, e['loc'][:-1]))}"
                elif e["type"] != "missing":
                    said += f", found {e['input']!r:.80}"
                faults.append(f"{self.where(*e['loc'])}: {key}: {said}")
            raise HeterosegError(*faults) from None


def _known_keys(model: type[BaseModel], loc: tuple) -> list[str]:
    """The keys allowed where `loc` points, as far as nested models can be followed."""
    current: Any = model
    for key in loc:
        if not (isinstance(current, type) and issubclass(current, BaseModel)):
            return []
        info = current.model_fields.get(str(key))
        if info is None:
            continue  # a dict key or list index of the model found just before
        nested = [info.annotation, *getattr(info.annotation, "__args__", ())]
        current = next((n for n in nested if isinstance(n, type) and issubclass(n, BaseModel)), None)
    return list(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else []


def _build(node: yaml.Node, loc: tuple, lines: dict[tuple, int | str], path: Path, open_nodes: tuple = ()) -> Any:
    lines[loc] = node.start_mark.line + 1
    if id(node) in open_nodes:
        raise HeterosegError(f"{path}:{lines[loc]}: an alias refers to the block that contains it; write the block out")
    open_nodes = (*open_nodes, id(node))
    if isinstance(node, yaml.MappingNode):
        result = {}
        for key_node, value_node in node.value:
            key = yaml.SafeLoader("").construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool | None):
                raise HeterosegError(f"{path}:{key_node.start_mark.line + 1}: a key must be a plain name")
            if key in result:
                first = lines[(*loc, key)]
                raise HeterosegError(
                    f"{path}:{key_node.start_mark.line + 1}: the key {key!r} stands twice "
                    f"(first on line {first}); keep one"
                )
            result[key] = _build(value_node, (*loc, key), lines, path, open_nodes)
            lines[(*loc, key)] = key_node.start_mark.line + 1
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, (*loc, i), lines, path, open_nodes) for i, item in enumerate(node.value)]
    try:
        return yaml.SafeLoader("").construct_object(node, deep=True)
    except (yaml.YAMLError, ValueError) as error:
        raise HeterosegError(f"{path}:{node.start_mark.line + 1}: expected a plain value, {error}") from None


def read_yaml(path: Path | str) -> Document:
    """Parse a YAML file. Duplicate keys, self-containing aliases and syntax errors raise HeterosegError."""
    path = Path(path)
    return parse_yaml(read_text(path), path)


def parse_yaml(text: str, path: Path) -> Document:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise HeterosegError(f"{path}{line}: not valid YAML, {getattr(error, 'problem', error)}") from None
    lines: dict[tuple, int | str] = {}
    return Document(path, {} if node is None else _build(node, (), lines, path), lines)


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise HeterosegError(f"{path}: cannot be read, {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise HeterosegError(f"{path}: expected a text file in UTF-8, found other bytes") from None


@contextmanager
def written(path: Path | str) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends well and removed when it fails."""
    path = Path(path)
    if path.is_dir():
        raise HeterosegError(f"{path}: expected a file to write, found a folder; choose another name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".part-", suffix=path.suffix)
    except OSError as error:
        reason = "a file stands where a folder is due" if isinstance(error, FileExistsError) else error.strerror
        raise HeterosegError(f"{path}: cannot be written, {reason}") from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    with written(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def require_empty(out: Path) -> None:
    """A place for a new dataset: a file, or a folder with something in it, raises."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise HeterosegError(f"{out}: expected a new or empty folder, found something in it; choose another --out")


def yaml_text(data: Any) -> str:
    """Data as YAML; of a pydantic model what is not its default."""
    if isinstance(data, BaseModel):
        data = data.model_dump(exclude_defaults=True, mode="json")
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)


def write_yaml(path: Path | str, data: Any) -> None:
    write_text(path, yaml_text(data))


def write_json(path: Path | str, data: Any) -> None:
    write_text(path, json.dumps(data, indent=2, allow_nan=False) + "\n")
