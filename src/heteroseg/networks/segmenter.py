"""A whole segmentation network of transformers, of pixels or of masks, that answers with the tree's logits."""

from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import ModelConfig
from heteroseg.labels.taxonomy import Taxonomy
from heteroseg.networks.backbone import build_errors, from_rgb, scaling_of, transformers_config
from heteroseg.networks.classifier import replace_classifier, tried
from heteroseg.networks.queries import Queries, outputs_of

COARSEST = 32  # stride of the coarsest map of networks without patches
ENCODERS = ("model.pixel_level_module.encoder", "detr.model.backbone", "backbone")  # where they are, or by the prefix
SMALLEST = 8  # pixels of a patch that an image is cut into; MobileViT cuts its maps into smaller ones


class LogitsOf(nn.Module):
    """A transformers segmentation model as a plain module: images in, its logits out.

    `side`: the one size that it takes, to which all images are brought. `dropped` are the parts that the logits do not
    come from, such as an auxiliary head.
    """

    def __init__(self, model: nn.Module, patch: int):
        super().__init__()
        self.model, self.patch, self.side = model, patch, 0
        self.dropped: list[str] = []
        asked = signature(model.forward).parameters
        self.how: dict[str, Any] = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in asked else {}
        neck = getattr(model, "neck", None)
        if neck is not None and "patch_height" in signature(neck.forward).parameters:
            neck.register_forward_pre_hook(self._tell_grid, with_kwargs=True)

    @property
    def encoder(self) -> nn.Module:
        """The part that is published without a segmentation head; where there is none HeterosegError is raised."""
        parts = dict(self.model.named_modules())
        for path in (*ENCODERS, getattr(self.model, "base_model_prefix", "")):
            if path in parts and path:
                return parts[path]
        told = "expected a network with an encoder, found one without"
        raise HeterosegError(f"model.freeze, model.lora: {told}; leave it out")

    def _tell_grid(self, _: nn.Module, inputs: Any, named: dict[str, Any]) -> Any:
        """DPT takes its images for squares where nobody says how many patches there are."""
        return inputs, {"patch_height": self.grid[0], "patch_width": self.grid[1]} | named

    def forward(self, images: Tensor) -> Tensor:
        if self.side:
            images = F.interpolate(images, (self.side, self.side), mode="bilinear", align_corners=False)
        self.grid = images.shape[2] // self.patch, images.shape[3] // self.patch
        return self.answer(images)

    def answer(self, images: Tensor) -> Tensor:
        return self.model(pixel_values=images, **self.how).logits


class MasksOf(LogitsOf):
    """As `LogitsOf`, of a network whose queries have classes and masks.

    Its class layer is made for the tree's logits and one for "no object", so that nothing has to be replaced.
    """

    def __init__(self, model: nn.Module, patch: int, tree: Taxonomy):
        super().__init__(model, patch)
        self.queries = Queries(tree)
        linear = (m for n, m in model.named_modules() if ".class_" in f".{n}" and isinstance(m, nn.Linear))
        self.queries.classes = tuple(m for m in linear if m.out_features == tree.channels + 1)

    def answer(self, images: Tensor) -> Tensor:
        if hasattr(self.model, "grid_size"):  # EoMT takes all images for those of its configuration
            self.model.grid_size = self.grid  # type: ignore[assignment]
        if length := getattr(self.model.config, "task_seq_len", 0):  # OneFormer is told its task: here always this one
            self.how = {"task_inputs": images.new_zeros((len(images), length), dtype=torch.long)}
        return self.queries(*outputs_of(self.model(pixel_values=images, **self.how)))


@torch.no_grad()
def _drop_idle(network: LogitsOf, images: Tensor) -> None:
    """Take out the parts of a model without which its logits stay what they are."""
    before, model = network(images), network.model
    for name, part in list(model.named_children()):
        setattr(model, name, None)
        try:
            same = torch.equal(network(images), before)
        except Exception:  # of every kind, where the part is needed
            same = False
        if same:
            network.dropped.append(name)
        else:
            setattr(model, name, part)


@torch.no_grad()
def _takes(network: LogitsOf, *size: int) -> bool:
    try:
        network(torch.zeros(1, 3, *size))
    except Exception:  # of every kind
        return False
    return True


def build_segmenter(config: ModelConfig, taxonomy: Taxonomy) -> tuple[LogitsOf, Any, int]:
    """The network of 'hf-seg:NAME' or 'hf-mask:NAME', how it wants pixels scaled, and what its images must be whole
    multiples of."""
    from transformers import AutoModelForSemanticSegmentation, AutoModelForUniversalSegmentation

    if config.scale != 1:
        told = f"a whole network of transformers takes images as they are, found {config.scale}"
        raise HeterosegError(f"model.scale: {told}; leave it out, or take a backbone")
    if config.branches:
        told = "a whole network of transformers takes none; leave them out, or take a backbone"
        raise HeterosegError(f"model.branches: {told}")
    family, _, name = config.backbone.partition(":")
    of_masks = family == "hf-mask"
    auto: Any = AutoModelForUniversalSegmentation if of_masks else AutoModelForSemanticSegmentation
    with build_errors(config.backbone, config.backbone_options):
        configured = transformers_config(name, config.backbone_options)
        if type(configured) not in auto._model_mapping:
            told = "that classifies masks" if of_masks else "that segments"
            raise HeterosegError(f"model.backbone: expected a network of transformers {told}, found {name!r}")
        made = {"num_labels": taxonomy.channels, "ignore_mismatched_sizes": True} if of_masks else {}
        if config.pretrained:
            model = auto.from_pretrained(name, **config.backbone_options, **made)
            from_rgb(model, name)
        else:
            configured.num_labels = made.get("num_labels", configured.num_labels)
            model = auto.from_config(configured)
        for part in model.modules():
            if getattr(part, "layerdrop", 0):  # a layer left out by chance would keep other processes waiting for it
                part.layerdrop = 0.0  # type: ignore[assignment]
        inner = getattr(configured, "backbone_config", None) or configured
        if inner.model_type == "timm_backbone":
            told = "expected sizes of a backbone of transformers, with its model_type, found one of timm"
            raise HeterosegError(f"model.backbone_options.backbone_config: {told}; a MODEL holds only the former")
        side, patch = (_largest(getattr(inner, key, 0)) for key in ("image_size", "patch_size"))
        network = (MasksOf(model, patch or 1, taxonomy) if of_masks else LogitsOf(model, patch or 1)).eval()
        multiples = (2 * patch,) if patch >= SMALLEST else (COARSEST, 2 * COARSEST)
        multiple = next((m for m in multiples if _takes(network, m, 2 * m)), multiples[0])
        if side and not _takes(network, multiple, 2 * multiple):
            network.side = side
        if not of_masks:
            replace_classifier(network, taxonomy, adapters=config.adapters, upsample=config.upsample)
            _drop_idle(network, tried(network)[0])
    return network.train(), scaling_of(name, config.pretrained), multiple


def _largest(size: Any) -> int:
    """A side in pixels, of one or of two."""
    return max(size) if isinstance(size, list | tuple) else size if isinstance(size, int) else 0
