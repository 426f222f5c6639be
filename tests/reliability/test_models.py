"""MODELs and exported files from strangers: each forgery is refused in one sentence, and nothing of them runs.

What stands under the tables is repeated with the checksums left out, as a forger would, so that each check by itself
is seen. `make fuzz` tries all, and more random damage, with a seed that is printed.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, seed
from hypothesis import strategies as st

from heteroseg.model.model import load
from tests.datasets.damage import VALUES
from tests.reliability import SEED
from tests.reliability.forging import (
    DAMAGE,
    HEAD,
    SIZES,
    VARIANCE,
    WEIGHT,
    Change,
    backbone,
    config_with,
    content,
    forged,
    header,
    hurt,
    no_file,
    one_value,
    option,
    outcome,
    random,
    tensors,
    text,
    trap,
)

OPTIONS = {
    "a checkpoint": option("checkpoint_path", "trap.pt"),
    "a checkpoint of another key": option("checkpoint", "trap"),
    "a pretrained config": option("pretrained_cfg", {"file": "trap.bin"}),
    "an overlay": option("pretrained_cfg_overlay", {"url": "http://127.0.0.1:9/x"}),
    "an attention of a hub": option("attn_implementation", "owner/kernel"),
    "an attention": option("_attn_implementation", "flash_attention_2"),
    "an auto map": option("auto_map", {"AutoBackbone": "trap.Net"}),
    "remote code": option("trust_remote_code", True),
    "a type of numbers": option("torch_dtype", {"a": 1}),
    "a path": option("_name_or_path", "/etc/passwd"),
    "a quantisation": option("quantization_config", {"quant_method": "gptq"}),
    "a nested path": option("hidden_sizes", [8, 8, 16, {"from": "trap"}]),
    "a nested backbone": option("backbone_config", {"model_type": "timm_backbone", "backbone": "resnet18"}),
    "a nested checkpoint": option("backbone_config", {"model_type": "resnet", "checkpoint_path": "trap.pt"}),
    "a word for a number": option("embedding_size", "trap"),
    "an address for a word": option("hidden_act", "http://127.0.0.1:9/x"),
    "a module for a word": option("hidden_act", "os.system"),
    "an unknown word": option("hidden_act", "trap"),
    "a large number": option("embedding_size", 10**9),
    "a long number": option("embedding_size", 10**4000),
    "many layers": option("depths", [1, 1, 1, 1_000_000]),
    "most layers": option("depths", [10**9] * 4),
    "a size below 0": option("embedding_size", -8),
    "a size of 0": option("hidden_sizes", [0, 0, 0, 0]),
    "no sizes": option("hidden_sizes", []),
    "many sizes": option("hidden_sizes", [8] * 100_000),
    "blocks in blocks": option("backbone_config", json.loads('{"backbone_config": ' * 40 + "{}" + "}" * 40)),
    "not a number": option("embedding_size", float("nan")),
    "wide images": option("num_channels", 10**6),
    "timm from a checkpoint": backbone("timm:resnet18", checkpoint_path="README.md"),
    "timm from a file": backbone("timm:resnet18", pretrained_cfg={"file": "weights.bin"}),
    "timm from a hub": backbone("timm:hf-hub:owner/name"),
    "timm from a folder": backbone("timm:local-dir:."),
    "a hub": backbone("hf:owner/name"),
    "another folder": backbone("hf:../elsewhere"),
    "this folder": backbone("hf:."),
    "an address": backbone("hf-seg:https://example.org/model"),
    "timm inside transformers": backbone("hf:timm_backbone", backbone="resnet18", use_pretrained_backbone=True),
    "no such family": backbone("pickle:trap"),
    "a class": backbone("python:trap:Net"),
    "a type that is none": backbone("hf:trap"),
    "a wide decoder": config_with("model", "width", value=10**9),
    "a decoder of all memory": config_with("model", "width", value=2**14),
    "a stride of 0": config_with("model", "stride", value=0),
    "a scale of 0": config_with("model", "scale", value=0),
    "another decoder": config_with("model", "decoder", value="trap"),
}
CONFIGS = {
    "a temperature of 0": config_with("temperatures", value={"root": 0}),
    "a temperature that is none": config_with("temperatures", value={"root": float("nan")}),
    "an endless temperature": config_with("temperatures", value={"root": float("inf")}),
    "a temperature below 0": config_with("temperatures", value={"root": -1}),
    "a temperature of a leaf": config_with("temperatures", value={"u": 1}),
    "a temperature of nothing": config_with("temperatures", value={"trap": 1}),
    "a promise of another tree": config_with("promise", value={"images": {}, "least": {"0.9": [0.5]}}),
    "a promise that falls": config_with("promise", value={"images": {}, "least": {"0.8": [0.5] * 3, "0.9": [0.4] * 3}}),
    "a promise of certainty": config_with("promise", value={"images": {}, "least": {"1": [0.5] * 3}}),
    "a promise below 0": config_with("promise", value={"images": {}, "least": {"0.9": [-1] * 3}}),
    "a promise that is none": config_with("promise", value={"images": {}, "least": {"0.9": [float("nan")] * 3}}),
    "a promise of words": config_with("promise", value={"images": {"a": "b"}, "least": "trap"}),
    "a later format": config_with("format", value=2),
    "a format of another kind": config_with("format", value=True),
    "a name that is a path": config_with("name", value="../../trap"),
    "a name of a device": config_with("name", value="/dev/zero"),
    "a label space elsewhere": config_with("label_spaces", value=["../../trap"]),
    "a label space that is missing": config_with("label_spaces", value=["mine", "yours"]),
    "many label spaces": config_with("label_spaces", value=["mine"] * 100_000),
    "a key too many": config_with("trap", value=1),
    "void logits": config_with("model", "void", value=True),
    "adapters": config_with("model", "adapters", value=True),
    "a branch": config_with("model", "branches", value=["x"]),
    "a branch of a leaf": config_with("model", "branches", value=["u"]),
    "branches": config_with("model", "branches", value=["x"] * 100_000),
    "a list": content("config.json", b"[]"),
    "brackets": content("config.json", b"[" * 100_000),
    "braces": content("config.json", b'{"model":' * 100_000),
    "a number of many digits": content("config.json", b'{"format": ' + b"9" * 5000 + b"}"),
    "no text": content("config.json", b"\xff\xfe\x00"),
    "nothing": content("config.json", b""),
}
WEIGHTS = {
    "not a number": one_value(WEIGHT, float("nan")),
    "endless": one_value(WEIGHT, float("inf")),
    "endless in the head": one_value(HEAD, -float("inf")),
    "a variance below 0": one_value(VARIANCE, -1.0),
    "a mean that is not a number": one_value(VARIANCE.replace("var", "mean"), float("nan")),
    "all but endless": tensors(lambda w: w[WEIGHT].fill_(3e38)),
    "a whole-numbered head": tensors(lambda w: w.update({HEAD: w[HEAD].to(torch.int64)})),
    "a head of bytes": tensors(lambda w: w.update({HEAD: w[HEAD].to(torch.uint8)})),
    "a complex head": tensors(lambda w: w.update({HEAD: w[HEAD].to(torch.complex64)})),
    "a true head": tensors(lambda w: w.update({HEAD: w[HEAD] > 0})),
    "a head of 8 bits": tensors(lambda w: w.update({HEAD: w[HEAD].to(torch.float8_e4m3fn)})),
    "a missing tensor": tensors(lambda w: w.pop(HEAD)),
    "one too many": tensors(lambda w: w.update({"trap": torch.zeros(1)})),
    "another name": tensors(lambda w: w.update({HEAD + "x": w.pop(HEAD)})),
    "more channels": tensors(lambda w: w.update({HEAD: torch.cat([w[HEAD], w[HEAD]])})),
    "fewer channels": tensors(lambda w: w.update({HEAD: w[HEAD][:-1].clone()})),
    "turned": tensors(lambda w: w.update({HEAD: w[HEAD].reshape(4, -1, 1, 1).clone()})),
    "flat": tensors(lambda w: w.update({HEAD: w[HEAD].flatten()})),
    "none": tensors(lambda w: w.clear()),
    "overlapping": header(
        lambda h: h[HEAD].update(data_offsets=[0, h[HEAD]["data_offsets"][1] - h[HEAD]["data_offsets"][0]])
    ),
    "behind the end": header(lambda h: h[HEAD].update(data_offsets=[10**12, 10**12 + 64])),
    "before the start": header(lambda h: h[HEAD].update(data_offsets=[-64, 0])),
    "of a large shape": header(lambda h: h[HEAD].update(shape=[2**40, 2**20])),
    "of an overflowing shape": header(lambda h: h[HEAD].update(shape=[2**32, 2**32, 1, 1])),
    "of a shape below 0": header(lambda h: h[HEAD].update(shape=[-1, 8, 1, 1])),
    "of an unknown kind": header(lambda h: h[HEAD].update(dtype="TRAP")),
    "with a header of another kind": header(lambda h: h.update(trap=[1, 2])),
    "with an endless header": content("model.safetensors", b"\xff" * 8 + b"{}"),
    "with a long header": content("model.safetensors", (10**11).to_bytes(8, "little") + b"{}"),
    "with brackets": content("model.safetensors", (100_000).to_bytes(8, "little") + b"[" * 100_000),
    "a pickle": lambda folder: torch.save({}, folder / "model.safetensors"),
    "cut off": lambda folder: os.truncate(folder / "model.safetensors", 3000),
    "empty": content("model.safetensors", b""),
    "a pipe": no_file("model.safetensors"),
    "a device": no_file("model.safetensors", "/dev/zero"),
    "a circle": no_file("model.safetensors", "model.safetensors"),
    "a folder": no_file("model.safetensors", "label_spaces"),
}
SPACE = "label_spaces/mine.yaml"
MEANINGS = {
    "an id that no file holds": text(SPACE, lambda t: t.replace("id: 7", "id: 70000")),
    "an id of 32 bits": text(SPACE, lambda t: t.replace("id: 7", f"id: {2**31 - 1}")),
    "an id of 64 bits": text(SPACE, lambda t: t.replace("id: 7", f"id: {2**63}")),
    "an id of many digits": text(SPACE, lambda t: t.replace("id: 7", f"id: {'9' * 5000}")),
    "an id below 0": text(SPACE, lambda t: t.replace("id: 7", "id: -7")),
    "an id twice": text(SPACE, lambda t: t.replace("id: 7", "id: 0")),
    "an outside that no file holds": text(SPACE, lambda t: t + "outside: 70000\n"),
    "a label of no node": text(SPACE, lambda t: t.replace("nodes: only", "nodes: trap")),
    "another name": text(SPACE, lambda t: t.replace("name: mine", "name: ../trap")),
    "a wide bomb": text(
        SPACE,
        lambda t: (
            t
            + "x: &a [1,1,1,1,1,1,1,1]\n"
            + "".join(f"y{i}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9))
        ),
    ),
    "brackets": content(SPACE, b"[" * 100_000),
    "code": content(SPACE, b"!!python/object/apply:os.system ['touch trap']"),
    "a tree of code": content("taxonomy.yaml", b"!!python/name:os.system"),
    "a node more": text("taxonomy.yaml", lambda t: t.replace("[a, b, c]", "[a, b, c, d]")),
    "a node less": text("taxonomy.yaml", lambda t: t.replace("[u, v, w]", "[u, v]")),
    "a circle": text("taxonomy.yaml", lambda t: t.replace("[u, v, w]", "[u, v, a]")),
    "a pipe": no_file(SPACE),
    "a device": no_file(SPACE, "/dev/zero"),
    "a circle of links": no_file(SPACE, "mine.yaml"),
}
ORDERS = {  # sound by themselves: only the checksums know that they are not what was saved
    "another order of the children": text("taxonomy.yaml", lambda t: t.replace("[a, b, c]", "[c, b, a]")),
    "another order deeper": text("taxonomy.yaml", lambda t: t.replace("[u, v, w]", "[w, u, v]")),
    "other names": text("taxonomy.yaml", lambda t: t.replace("[u, v, w]", "[v, u, w]")),
    "other ids": text(SPACE, lambda t: t.replace("id: 7", "id: 8")),
    "other nodes": text(SPACE, lambda t: t.replace("nodes: only", "nodes: x", 1)),
    "another temperature": config_with("temperatures", value={"root": 3.0}),
    "another rule": config_with("decision", value="path"),
    "other weights": one_value(WEIGHT, 9.0),
    "channels changed": tensors(lambda w: w.update({HEAD: w[HEAD].flip(0).contiguous()})),
    "halves": tensors(lambda w: w.update({HEAD: w[HEAD].half()})),
}
TABLES = {"options": OPTIONS, "config": CONFIGS, "weights": WEIGHTS, "meanings": MEANINGS}
FORGERIES = [pytest.param(c, id=f"{t}-{n}".replace(" ", "_")) for t, table in TABLES.items() for n, c in table.items()]


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "unsealed"])
@pytest.mark.parametrize("change", FORGERIES)
def test_a_forgery_is_refused(model, before, tmp_path, monkeypatch, change: Change, sealed):
    canary = tmp_path / "canary"
    folder = forged(model, tmp_path / "m", change, sealed)
    trap(folder, canary)
    monkeypatch.chdir(folder)
    said = outcome(Path("."), before)
    assert not canary.exists(), "code of the MODEL ran"
    assert not (folder / "trap").is_dir()
    harmless = said == "same" and not sealed  # bookkeeping of a library, which is left out
    assert harmless or said not in ("same", "other"), said


@pytest.mark.parametrize("name", ORDERS)
def test_files_of_two_models_are_told(model, before, tmp_path, name):
    said = outcome(forged(model, tmp_path / "m", ORDERS[name], sealed=True), before)
    assert "expected the file that was saved with this MODEL" in said
    assert "take `checksums` out of" in said


def test_an_owner_may_change_a_label_space(model, before, tmp_path):
    folder = forged(model, tmp_path / "m", ORDERS["other ids"], sealed=False)
    assert set(np.unique(load(folder).predict(np.zeros((40, 56, 3), np.uint8)).labels("mine"))) <= {0, 8, 9, 255}
    load(folder).save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["checksums"], "a copy is bound anew"


def test_line_ends_and_the_card_may_change(model, before, tmp_path):
    folder = forged(model, tmp_path / "m", text("taxonomy.yaml", lambda t: t.replace("\n", "\r\n")), sealed=True)
    (folder / "README.md").write_text("another card")
    assert outcome(folder, before) == "same"


FILES = ("config.json", "taxonomy.yaml", SPACE, "model.safetensors")


@seed(SEED)
@random
@given(st.sampled_from(FILES), st.booleans(), DAMAGE)
def test_damaged_bytes(model, before, tmp_path_factory, name, sealed, damage):
    """Whatever stands in a file: it is refused, or what it says does not matter."""
    place = tmp_path_factory.mktemp("damaged")
    changed = hurt((model / name).read_bytes(), damage)
    folder = forged(model, place / "m", content(name, changed), sealed)
    trap(folder, place / "canary")
    said = outcome(folder, before)
    assert not (place / "canary").exists()
    assert said != "other" or not sealed


KEYS = st.sampled_from(
    ["checkpoint_path", "pretrained_cfg", "attn_implementation", "auto_map", "_name_or_path", "dtype"]
)


@seed(SEED + 1)
@random
@given(KEYS | st.sampled_from([*SIZES, "hidden_act", "backbone_config"]) | st.text(max_size=9), VALUES)
def test_options_of_any_name_and_value(model, before, tmp_path_factory, key, value):
    place = tmp_path_factory.mktemp("options")
    folder = forged(model, place / "m", option(key, value), sealed=False)
    trap(folder, place / "canary")
    outcome(folder, before)
    assert not (place / "canary").exists()
