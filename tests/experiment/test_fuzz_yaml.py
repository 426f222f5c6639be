"""Experiments, taxonomies and label spaces that are damaged anywhere: read as PyYAML reads them, or a fault is told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import load_experiment
from heteroseg.labels.space import load_label_space
from heteroseg.labels.taxonomy import load_taxonomy
from tests.datasets.damage import damaged

EXPERIMENT = """\
name: e
taxonomy: streets-108
datasets:
  city: {root: a b, reader: folder, options: {images: "{split}/{name}.*"}, <<: &d {label_space: l, scale: [1, 2]}}
  more: {<<: *d, root: m, reader: yolo}
  signs: {root: s, reader: gtsdb, label_space: gtsdb, share: 2, flip: 0, train: null}
optimiser: {lr: 1e-3, power: 0.9, schedule: poly}
loss: {weights: {default: 1, root: .5}}
train: {steps: 1_000, crop: [64, 96], precision: "32", freeze_norm: yes}
"""
TREE = "name: tiny\ntree:\n  root: [sky, ground, sign]\n  ground: [road, 'no', walk]\ncolors: {sky: [1, 2, 3]}\n"
SPACE = """\
name: mine
taxonomy: tiny.yaml
labels:
  - {id: 0, name: sky, nodes: sky, color: [1, 2, 3]}
  - {id: 7, name: "no", nodes: [road, walk], evaluate: no}
  - id: 0x20
    name: void
    ignore: true
outside: 255
around_boxes: {excludes: sign, margin: 1.5}
coverage: {sign: none}
"""
FILES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "experiment": (EXPERIMENT, lambda path: load_experiment(path)[0]),
    "taxonomy": (TREE, lambda path: load_taxonomy(path).to_file()),
    "label space": (SPACE, lambda path: load_label_space(path).file),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "tiny.yaml").write_text(TREE)
    return folder


def same(read: Any, written: Any) -> bool:
    """Whether what was read is what stands in the file; numbers may stand there as texts."""
    if isinstance(read, dict):
        return isinstance(written, dict) and all(key in written and same(read[key], written[key]) for key in read)
    if isinstance(read, list | tuple):
        return isinstance(written, list) and len(read) == len(written) and all(map(same, read, written))
    if isinstance(read, bool):
        return read == (str(written).lower() in ("true", "1", "1.0", "yes", "y", "on", "t"))
    if isinstance(read, int | float):
        return not isinstance(written, bool) and float(read) == float(written)
    return type(read) is type(written) and read == written


def check(folder: Path, kind: str, content: bytes) -> bool:
    """Whether the content is read; what is read is what PyYAML's own loader reads."""
    path = folder / f"{kind}.yaml"
    path.write_bytes(content)
    try:
        read = FILES[kind][1](str(path)).model_dump(mode="json", exclude_unset=True)
    except HeterosegError:
        return False
    try:
        written = yaml.safe_load(content.decode("utf-8-sig"))
    except yaml.YAMLError:  # it knows some line breaks that libyaml does not know
        return True
    if kind == "taxonomy":  # other nodes have colours of their own
        read["colors"] = {name: read["colors"][name] for name in written.get("colors") or {}}
        read["tree"] = {name: read["tree"].get(name) for name in written["tree"]}
    assert same(read, {"description": "", **written})
    return True


@pytest.mark.parametrize("kind", FILES)
def test_sound_files_are_read(folder, kind):
    assert check(folder, kind, FILES[kind][0].encode())


@pytest.mark.parametrize("kind", FILES)
@given(data=st.data())
def test_damaged_files(folder, kind, data):
    check(folder, kind, data.draw(damaged(FILES[kind][0].encode()) | st.binary(max_size=100)))
