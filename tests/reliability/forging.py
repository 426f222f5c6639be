"""MODELs as strangers make them: one part forged, all else as it was."""

import json
import os
import pickle
import shutil
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import ModelConfig
from heteroseg.labels.space import LabelSpaceFile, build_label_space
from heteroseg.model.model import Model, load
from heteroseg.networks.network import build_network
from tests.datasets.damage import TOKENS
from tests.reliability import WHOLE
from tests.small_tree import TREE

random = settings(max_examples=300 if WHOLE else 40, deadline=None, suppress_health_check=list(HealthCheck))

LABELS = [
    {"id": 0, "name": "a", "nodes": "a"},
    {"id": 7, "name": "b", "nodes": "only"},
    {"id": 9, "name": "c", "nodes": "c"},
]
SIZES = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}
IMAGE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
SECONDS = 20  # a hang is a fault; on a busy machine a load may take some
DAMAGE = st.lists(
    st.tuples(st.integers(0, 2**31), st.integers(0, 12), st.sampled_from(TOKENS) | st.binary(max_size=3)), min_size=1
)
WEIGHT, HEAD, VARIANCE = "body.1.context.1.weight", "body.2.logits.0.weight", "body.1.laterals.0.1.running_var"
Change = Callable[[Path], None]


class Canary:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def small_model() -> Model:
    """A small model whose answers change from place to place."""
    torch.manual_seed(3)
    config = ModelConfig(backbone="hf:resnet", backbone_options=SIZES, width=16)
    network = build_network(config, TREE).eval()
    space = build_label_space(LabelSpaceFile(name="mine", taxonomy="t", labels=LABELS), TREE)
    model = Model("small", network, TREE, {"mine": space}, config, temperatures={"root": 2.0})
    last, logits = network.body.get_submodule("2.logits.0"), model.predict(IMAGE).logits
    with torch.no_grad():
        last.weight.mul_(4 / logits.std((0, 2, 3))[:, None, None, None])
        last.bias.copy_(-logits.mean((0, 2, 3)) * 4 / logits.std((0, 2, 3)))
    return model


def hurt(content: bytes, damage: list[tuple[int, int, bytes]]) -> bytes:
    """The content with other bytes at some places, in the place of a few."""
    for place, gone, part in damage:
        start = place % (len(content) + 1)
        content = content[:start] + part + content[start + gone :]
    return content


def answer(path: Path) -> np.ndarray:
    """What a MODEL or an exported file says about IMAGE: the ids in each of its label spaces, one over the other."""
    model = load(path)
    prediction = model.predict(IMAGE)
    return np.stack([*(prediction.labels(name) for name in model.spaces), prediction.labels("leaves")])


def outcome(path: Path, before: np.ndarray) -> str:
    """'same' where the answer is as `before`, 'other' where it is not, else the one sentence that refused it."""
    start, faults = time.monotonic(), ()
    try:
        now = answer(path)
    except HeterosegError as error:
        faults = error.faults
    assert time.monotonic() - start < SECONDS
    assert not any("\n" in fault or len(fault) > 800 for fault in faults), faults
    if faults:
        return "\n".join(faults)
    return "same" if now.shape == before.shape and (now == before).all() else "other"


def config_with(*keys: str | int, value: Any) -> Change:
    """Set one value in config.json."""

    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        inside = config
        for key in keys[:-1]:
            inside = inside[key]
        inside[keys[-1]] = value
        (folder / "config.json").write_text(json.dumps(config))

    return change


def option(name: str, value: Any) -> Change:
    """Set one of the options that build the backbone."""
    return config_with("model", "backbone_options", name, value=value)


def backbone(name: str, **options: Any) -> Change:
    def change(folder: Path) -> None:
        config_with("model", "backbone", value=name)(folder)
        config_with("model", "backbone_options", value=options)(folder)

    return change


def tensors(edit: Callable[[dict[str, torch.Tensor]], Any]) -> Change:
    """Edit the weights, in place."""

    def change(folder: Path) -> None:
        weights = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
        edit(weights)
        save_file(weights, folder / "model.safetensors")

    return change


def one_value(name: str, value: float) -> Change:
    return tensors(lambda weights: weights[name].view(-1)[:1].fill_(value))


def header(edit: Callable[[dict[str, Any]], Any]) -> Change:
    """Edit what the weights file says of its tensors; the bytes behind stay."""

    def change(folder: Path) -> None:
        data = (folder / "model.safetensors").read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        entries = json.loads(data[8 : 8 + size])
        edit(entries)
        text = json.dumps(entries).encode()
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])

    return change


def text(name: str, edit: Callable[[str], str]) -> Change:
    """Edit one of the text files."""

    def change(folder: Path) -> None:
        before = (folder / name).read_text()
        after = edit(before)
        assert after != before
        (folder / name).write_text(after)

    return change


def content(name: str, data: bytes) -> Change:
    return lambda folder: _put(folder / name, data)


def _put(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def no_file(name: str, target: str | None = None) -> Change:
    """A link to `target`, or a named pipe, in the place of a file."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        if target is None:
            os.mkfifo(folder / name)
        else:
            (folder / name).symlink_to(target)

    return change


def trap(folder: Path, canary: Path) -> None:
    """Pickles that make `canary`, under every name that a library may look for."""
    for name in ("README.md", "weights.bin", "pytorch_model.bin", "trap", "trap.pt", "trap.pth"):
        torch.save(Canary(canary), folder / name)
    (folder / "trap.py").write_text(f"from pathlib import Path\nPath({str(canary)!r}).touch()\n")
    (folder / "trap.pkl").write_bytes(pickle.dumps(Canary(canary)))


def forged(model: Path, out: Path, change: Change, sealed: bool) -> Path:
    """A copy with one change; unless `sealed`, without the checksums that would tell it."""
    shutil.copytree(model, out)
    change(out)
    if not sealed and (out / "config.json").is_file():
        with suppress(ValueError, TypeError, RecursionError):  # it may be no config any more
            config_with("checksums", value={})(out)
    return out
