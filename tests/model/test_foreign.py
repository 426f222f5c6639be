"""A MODEL from elsewhere names nothing that a library would load: no file, no address, no hub."""

import json
import shutil

import pytest

from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import ModelConfig
from heteroseg.labels.taxonomy import load_taxonomy
from heteroseg.model.model import Model, load, save_model
from heteroseg.networks.network import build_network


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone": "timm:resnet18", "backbone_options": {"checkpoint_path": "README.md"}},
        {"backbone": "timm:resnet18", "backbone_options": {"pretrained_cfg": {"file": "weights.bin"}}},
        {"backbone": "timm:hf-hub:owner/name"},
        {"backbone": "hf:owner/name"},
        {"backbone": "hf:../elsewhere"},
        {"backbone": "hf-seg:https://example.org/model"},
        {"backbone": "hf:resnet", "backbone_options": {"stages": ["a", {"from": "/etc/passwd"}]}},
        {"backbone": "hf:timm_backbone", "backbone_options": {"backbone": "resnet18", "use_pretrained_backbone": True}},
    ],
)
def test_a_model_names_no_file_and_no_hub(tiny_model_folder, tmp_path, changes):
    folder = shutil.copytree(tiny_model_folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["model"] = {**config["model"], "backbone_options": {}, **changes}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "README.md").write_bytes(b"\x80\x04.")  # a pickle of nothing
    said = r"config\.json: model\.backbone(_options\S*)?: expected (a plain name|an option that is known|numbers)"
    with pytest.raises(HeterosegError, match=said):
        load(folder)


def test_a_backbone_whose_last_layer_is_dropped_is_read_again(tmp_path):
    config, tree = ModelConfig(backbone="lite0", pretrained=False, width=16), load_taxonomy("streets-real")
    save_model(Model("a", build_network(config, tree), tree, {}, config), tmp_path / "a")
    assert load(tmp_path / "a").name == "a"
