"""Texts: YAML that users write and that remembers its lines, JSON, templates."""

import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from yaml.constructor import ConstructorError

from heteroseg.errors import HeterosegError, counted, nearest, raise_faults, shortened, text_of
from heteroseg.writing import LONGEST, write_bytes

SPECS = Path(__file__).parent / "specs"
"""The folder of the YAML files that ship."""
Model = TypeVar("Model", bound=BaseModel)
Fault = tuple[tuple[str | int, ...], str]
"""Keys and indices into a file, and what is wrong there."""
DEEPEST = 50  # blocks in blocks of a YAML file
ALIASED = 100_000  # parts of a YAML file that its aliases may stand for
BITS = 4096  # of a number: longer ones cannot be told
MOST_BYTES = 2**31  # of a file that is read whole
MOST_YAML = 2**25  # bytes of a YAML file
MOST_PARTS = 400_000  # of a YAML file, by its commas, brackets and lines: each takes some time


WORDS = (  # of pydantic, and ours
    (r"^Value error, |, unable to parse .*|, got a number with a fractional part", ""),
    (r"^Field required$", "expected a value, found none"),
    (r"^Input should (be|have) ", "expected "),
    (r"^\w+ should have (at (?:least|most) \d+ \w+).*", r"expected \1"),
    (r"a valid dictionary or .*|a valid dictionary", "keys and values"),
    (r"a valid (tuple|list|set)", "a list"),
    (r"a valid string", "a text"),
    (r"a valid integer", "a whole number"),
    (r"a valid (number|float)", "a number"),
    (r"a valid boolean", "true or false"),
)


def in_our_words(message: str) -> str:
    """What pydantic says of a value."""
    for theirs, ours in WORDS:
        message = re.sub(theirs, ours, message)
    return message


def _plain(name: str) -> str:
    """A name that may become part of a file's name."""
    odd = not name or name != name.strip() or name.startswith(".") or not name.isprintable()
    if odd or "/" in name or "\\" in name or len(name.encode()) > LONGEST:
        raise ValueError("expected a plain name, short, without slashes and without a dot in front")
    return name


PlainName = Annotated[str, AfterValidator(_plain)]


def require_plain(what: str, name: str) -> None:
    """Raise HeterosegError for a name that no file can be named by."""
    try:
        _plain(name)
    except ValueError as error:
        raise HeterosegError(f"{what}: {error}, found {shortened(repr(name))}") from None


class Strict(BaseModel):
    """What a user writes: only known keys, only finite numbers, and no yes or no where a number is due."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _number(cls, value: Any, info: ValidationInfo) -> Any:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else (value,)
        if bool in map(type, inner):
            kinds = set(re.findall(r"\w+", str(cls.model_fields[str(info.field_name)].annotation)))
            if kinds & {"int", "float"} and "bool" not in kinds:
                raise ValueError("expected a number")
        return value


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

    def raise_faults(self, faults: Iterable[Fault]) -> None:
        """Raise one HeterosegError that tells each fault with file and line, if there are any."""
        raise_faults(f"{self.where(*loc)}: {text}" for loc, text in faults)

    def parse(self, model: type[Model]) -> Model:
        """Validate the document; every fault becomes one sentence with file and line."""
        try:
            return model.model_validate(self.data, context={"file": self.path})
        except ValidationError as error:
            self.raise_faults(faults_of(error, model))
            raise


def faults_of(error: ValidationError, model: type[BaseModel], whole: str = "the file") -> Iterator[Fault]:
    """What pydantic found wrong in data for a model, in our words; `whole` stands for all of the data."""
    for e in (e for e in error.errors() if e["type"] != "default_factory_not_called"):  # which follows others
        key = ".".join(shortened(str(k)) for k in e["loc"] if k != "[key]") or whole
        fault = in_our_words(e["msg"])
        if e["type"] == "extra_forbidden":
            known = _known_keys(model, e["loc"][:-1])
            nearby = nearest(str(e["loc"][-1]), known)
            fault = f"there is no such key{nearby} (known: {', '.join(known)})"
        elif isinstance(e["input"], date):
            fault += f", found the date {e['input']}; write it in quotes"
        elif e["type"] != "missing":
            numbers = e["type"] == "string_type" and isinstance(e["input"], int | float)  # 12:30 is 750
            fault += f", found {shortened(repr(e['input']))}" + "; write it in quotes" * numbers
        yield e["loc"], f"{key}: {fault}" if key else fault


def _known_keys(model: type[BaseModel], loc: tuple) -> list[str]:
    """The keys allowed where `loc` points, as far as nested models can be followed."""
    fields = model.model_fields
    for key in loc:
        if key in fields:  # other keys are those of a dict or list of models, which lead no deeper
            annotation = fields[key].annotation
            types = [t for t in (annotation, *get_args(annotation)) if isinstance(t, type)]
            fields = next((t.model_fields for t in types if issubclass(t, BaseModel)), {})
    return list(fields)


class _LineLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # in C: seven times faster
    """Constructs plain data and tells the line of every key and item. Merge keys (`<<`) work; equal keys raise."""

    def __init__(self, text: str, path: Path):
        super().__init__(text)
        self.path = path
        self.seen: set[int] = set()
        self.left = ALIASED

    def fault(self, node: yaml.Node, text: str) -> HeterosegError:
        return HeterosegError(f"{self.path}:{_line(node)}: {text}")

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except ValueError as error:  # such as a date with month 13
            raise self.fault(node, f"expected a plain value, {error}") from None
        if isinstance(value, int) and value.bit_length() > BITS:
            raise self.fault(node, "expected a number, found one of too many digits")
        return value

    def take(self, node: yaml.Node, parts: int) -> None:
        """Count parts that stand for others; too many of them would take all memory."""
        self.left -= parts
        if self.left < 0:
            raise self.fault(node, f"aliases stand for more than {ALIASED} parts; write the file out")

    def construct_key(self, node: yaml.Node) -> Any:
        key = self.construct_object(node) if isinstance(node, yaml.ScalarNode) else node
        if not isinstance(key, str | int | float | bool | None):
            raise self.fault(node, "a key must be a plain name")
        return key

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Check the keys, then resolve merge keys and keep one pair for each key."""
        lines: dict[Any, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                for block in value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]:
                    if not isinstance(block, yaml.MappingNode):
                        raise self.fault(block, "'<<' merges blocks of keys and values, found something else")
                    self.take(key_node, len(block.value))
                continue
            key = self.construct_key(key_node)
            if key in lines:
                raise self.fault(key_node, f"the key {key!r} stands twice (first on line {lines[key]}); keep one")
            lines[key] = _line(key_node)
        super().flatten_mapping(node)
        node.value = list({self.construct_key(pair[0]): pair for pair in node.value}.values())

    def read(self) -> Document:
        """The document with its lines by path. A block that contains itself raises HeterosegError."""
        root = self.get_single_node()
        if root is None:
            return Document(self.path, {})
        data = self.construct_document(root)
        lines: dict[tuple, int | str] = {(): _line(root)}
        waiting: list[tuple[tuple, yaml.Node, tuple[yaml.Node, ...]]] = [((), root, ())]
        while waiting:
            loc, node, outer = waiting.pop()
            if node in outer:
                told = "an alias refers to the block that contains it; write the block out"
                raise HeterosegError(f"{self.path}:{lines[loc]}: {told}")
            if len(outer) > DEEPEST:
                raise self.fault(node, f"expected at most {DEEPEST} blocks in one another, found more")
            if id(node) in self.seen:
                self.take(node, 1 + (len(node.value) // LONGEST if isinstance(node, yaml.ScalarNode) else 0))
            self.seen.add(id(node))
            parts: list[tuple[Any, yaml.Node, yaml.Node]] = []  # key, where it stands, value
            if isinstance(node, yaml.MappingNode):
                parts = [(self.construct_key(key), key, value) for key, value in node.value]
            elif isinstance(node, yaml.SequenceNode):
                parts = [(i, item, item) for i, item in enumerate(node.value)]
            for key, place, value in parts:
                lines[*loc, key] = _line(place)
                waiting.append(((*loc, key), value, (*outer, node)))
        return Document(self.path, data, lines)


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1


def read_yaml(path: Path | str) -> Document:
    """Parse a YAML file. Duplicate keys, self-containing aliases and syntax errors raise HeterosegError."""
    path = Path(text_of(path))
    return parse_yaml(read_text(path, MOST_YAML), path)


def parse_yaml(text: str, path: Path) -> Document:
    """Parse YAML text; `path` is what faults name as its file."""
    if sum(map(text.count, ",[{\n")) > MOST_PARTS:
        raise HeterosegError(f"{path}: expected at most {MOST_PARTS} parts, found more; write several files")
    try:
        return _LineLoader(text, path).read()
    except RecursionError:
        raise HeterosegError(f"{path}: not valid YAML, blocks are nested too deeply") from None
    except UnicodeError:
        raise HeterosegError(f"{path}: not valid YAML, expected text in UTF-8, found half a sign") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else path
        told = "expected a plain value" if isinstance(error, ConstructorError) else "not valid YAML"
        problem = getattr(error, "problem", None) or getattr(error, "reason", error)
        if "start any token" in str(problem):
            problem = "found a sign that begins no value; indent by blanks and not by tabs, and quote % @ and `"
        raise HeterosegError(f"{place}: {told}, {problem}") from None


def require_regular(path: Path, most: int = MOST_BYTES) -> Path:
    """`path` where it is a file of at most `most` bytes; pipes and devices, which may not end, raise HeterosegError."""
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        told = getattr(error, "strerror", None) or error
        raise HeterosegError(f"{path}: cannot be read, {told}") from None
    if not S_ISREG(found.st_mode):
        what = "a folder" if S_ISDIR(found.st_mode) else "a pipe or a device"
        raise HeterosegError(f"{path}: cannot be read, expected a file, found {what}")
    if found.st_size > most:
        raise HeterosegError(f"{path}: expected a file of at most {most} bytes, found {found.st_size}; make it smaller")
    return path


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """A text file in UTF-8 of at most `most` bytes, without the byte order mark that some editors write."""
    try:  # a text stream takes one byte of the mark for an empty file
        text = require_regular(path, most).read_bytes().decode("utf-8-sig")
        return text.replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise HeterosegError(f"{path}: cannot be read, {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise HeterosegError(f"{path}: expected a text file in UTF-8, found other bytes; save it as UTF-8") from None


def write_text(path: Path | str, text: str) -> None:
    write_bytes(path, text.encode(errors="backslashreplace"))  # names of files that are not UTF-8


def yaml_text(data: Any) -> str:
    """Data as YAML, with the comments of ruamel.yaml's own mappings and lists; of a pydantic model its non-defaults."""
    from ruamel.yaml import YAML  # takes a twentieth of a second, which only writers pay
    from ruamel.yaml.emitter import Emitter

    class WholeTexts(Emitter):
        """Breaks long lines between the items of a list, not inside an item."""

        def process_scalar(self) -> None:
            width, self.best_width = self.best_width, sys.maxsize
            super().process_scalar()
            self.best_width = width

    if isinstance(data, BaseModel):
        data = data.model_dump(exclude_defaults=True, mode="json")
    writer, text = YAML(), io.StringIO()
    writer.Emitter = WholeTexts
    writer.version = "1.1"  # what PyYAML reads: quotes around yes, no, 12:30
    writer.default_flow_style, writer.width = None, 110  # a list goes on to the end of the item that passes it
    writer.indent(mapping=2, sequence=4, offset=2)
    writer.representer.ignore_aliases = lambda data: True
    writer.dump(data, text)
    return text.getvalue()[len("%YAML 1.1\n---\n") :]


def write_yaml(path: Path | str, data: Any) -> None:
    write_text(path, yaml_text(data))


def read_json(path: Path, missing: Any = None) -> Any:
    """The content of a JSON file, or `missing` where that is given and no file is there; broken syntax raises."""
    return missing if missing is not None and not path.is_file() else parse_json(read_text(path), path)


def parse_json(text: str | bytes, path: Path | str) -> Any:
    """The content of JSON text; `path` is what faults name as its file."""
    hint = "it is cut off or damaged, so restore it or export it again"
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise HeterosegError(f"{path}:{error.lineno}: not valid JSON, {error.msg}; {hint}") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, or brackets in brackets
        raise HeterosegError(f"{path}: not valid JSON, a number or a nesting is too long; {hint}") from None


def write_json(path: Path | str, data: Any) -> None:
    write_text(path, json_text(data))


def json_text(data: Any) -> str:
    return json.dumps(data, indent=2, allow_nan=False) + "\n"


def fill_template(name: str, values: Mapping[str, Any], **filters: Callable) -> str:
    """The text of a template of the package; a value that is missing raises.

    Pages (.html) escape the values, tables (.txt) do not end in a newline.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    page, loader = name.endswith(".html"), PackageLoader("heteroseg")
    blocks: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": name.endswith(".md")}
    environment = Environment(loader=loader, undefined=StrictUndefined, autoescape=page, **blocks)
    environment.filters |= {"counted": counted, **filters}
    text = environment.get_template(name).render(values)
    return text.rstrip("\n") if name.endswith(".txt") else text
