"""The experiment file: everything that one run is made of, in one YAML."""

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from heteroseg.errors import HeterosegError, raise_faults, shortened
from heteroseg.files import SPECS, Document, PlainName, Strict, parse_yaml, read_yaml
from heteroseg.writing import home_expanded

MOST_PIXELS = 2**30  # of a batch


def _rising(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError("expected the smaller number first")
    return limits


def _line(text: str) -> str:
    if any(sign < " " for sign in text):
        raise ValueError("expected a text on one line, without control characters")
    return text


def _text(text: str) -> str:
    if not text:
        raise ValueError("expected a text, not an empty one")
    return _line(text)


def _useful(weights: dict[str, float]) -> dict[str, float]:
    if weights.get("default") == 0 and not any(weights.values()):
        raise ValueError("expected a weight above 0, as else nothing is learnt")
    return weights


Line = Annotated[str, AfterValidator(_line)]
Text = Annotated[str, AfterValidator(_text)]
Positive = Annotated[int, Field(gt=0, lt=2**31)]
Count = Annotated[int, Field(ge=0, lt=2**31)]
Side = Annotated[int, Field(gt=0, le=2**14)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Factor = Annotated[float, Field(gt=0, le=1e6)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
Weights = Annotated[dict[str, Weight], AfterValidator(_useful)]
Zoom = Annotated[float, Field(ge=0.01, le=100)]
Precision = Annotated[  # YAML reads 16 as a number
    Literal["32", "bf16", "16"], BeforeValidator(lambda value: str(value) if type(value) is int else value)
]


class DatasetConfig(Strict):
    """One dataset: where its files lie, how they are read and what their labels mean."""

    root: Text
    reader: Text
    label_space: Text
    options: dict[str, Any] = Field({}, description="arguments of the reader")
    train: Text | None = Field("train", description="split to train on; null: only evaluate")
    val: Text | None = Field("val", description="split to evaluate on; null: only train")
    share: Factor = Field(1.0, description="part of every batch, relative to the other datasets")
    flip: Fraction = Field(0.5, description="chance of a horizontal flip; 0 where left and right have a meaning")
    scale: Annotated[tuple[Zoom, Zoom], AfterValidator(_rising)] = Field(
        (0.5, 2.0), description="range of the random zoom"
    )
    focus: Fraction = Field(0.0, description="chance that a crop is placed around a box")
    rare: Fraction = Field(0.0, description="chance that a draw is for a label, all labels being equally likely")
    license: str | None = Field(None, description="of the data, as told in reports and model cards")
    notes: str | None = Field(None, description="where the data come from, what they must not be used for")


class ModelConfig(Strict):
    """Backbone, decoder and head."""

    backbone: Text = "lite0"
    pretrained: bool = False
    backbone_options: dict[str, Any] = Field({})
    scale: float = Field(1.0, ge=0.01, le=1, description="images are shrunk by this first; the strides grow with it")
    decoder: Literal["fpn", "reduction"] = "fpn"
    width: Side = 128
    stride: Side = Field(4, description="output stride of the decoder")
    adapters: bool = Field(False, description="the paper's bottleneck per classifier")
    upsample: bool = Field(False, description="the paper's learned 2x upsampling per classifier")
    void: bool = Field(False, description="the paper's void logit in every classifier")


@cache
def presets() -> dict[str, ModelConfig]:
    """The shipped networks by their names, specs/presets.yaml."""
    return {name: ModelConfig(**options) for name, options in read_yaml(SPECS / "presets.yaml").data.items()}


class LossConfig(Strict):
    """How terms are weighed; see heteroseg.supervision.loss."""

    cell: Side = Field(4, description="one pixel is looked at in every cell x cell block; 1 is full resolution")
    gate: Literal["hard", "soft", "open"] = "hard"
    normalise: Literal["classifier", "pixel"] = "classifier"
    weights: Weights = Field({}, description="weight by classifier, `default` for the rest")
    box_weights: dict[str, Weight] = Field({}, description="the same for terms from boxes; else as in weights")
    balance: Fraction = Field(0.0, description="pixels weigh like (pixels of their label in the batch) ** -balance")
    class_weights: dict[str, Weight] = Field({}, description="weight by label, as DATASET/LABEL")


class OptimiserConfig(Strict):
    name: Literal["sgd", "adamw"] = "adamw"
    lr: Factor = 1e-3
    backbone_lr: Factor = Field(1.0, description="factor on lr for the backbone")
    weight_decay: Weight = 1e-2
    momentum: Decay = 0.9
    schedule: Literal["poly", "piecewise"] = "poly"
    warmup: Count = Field(0, description="steps over which lr rises linearly from 0")
    power: float = Field(0.9, ge=0, le=100)
    halve_at: list[Count] = Field([], description="steps after which a piecewise lr is halved")
    clip: Weight = Field(0.0, description="largest norm of the gradient; 0 is off")


class TrainConfig(Strict):
    steps: Positive = 1000
    batch: Side = 8
    crop: tuple[Side, Side] = Field((256, 256), description="height, width")
    color: Fraction = Field(0.5, description="chance of each of: brightness, contrast, saturation, hue, blur")
    seed: int = Field(0, ge=0, lt=2**32)
    workers: int = Field(1, ge=0, le=1024)
    ema: Decay = Field(0.0, description="decay of the weight average; 0 is off")
    precision: Precision = "32"
    devices: Positive | Literal["auto"] = "auto"
    nodes: Positive = 1
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"] = "auto"
    log_every: Positive = 10
    save_every: Positive = 200
    evaluate_every: Count = Field(0, description="steps between evaluations; 0: only at the end")
    freeze_norm: bool = Field(False, description="keep the statistics of batch norms as they are")

    @model_validator(mode="after")
    def _fits_memory(self):
        pixels = self.batch * self.crop[0] * self.crop[1]
        if pixels > MOST_PIXELS:
            raise ValueError(f"expected batch times crop of at most {MOST_PIXELS} pixels, found {pixels}")
        return self


class EvaluateConfig(Strict):
    decision: Literal["path", "marginal"] = "marginal"


class Experiment(Strict):
    """A whole run.

    Example:
        >>> signs = {"root": "gtsdb", "reader": "gtsdb", "label_space": "gtsdb"}
        >>> experiment = Experiment(name="signs", taxonomy="streets-108", datasets={"signs": signs})
        >>> experiment.train.steps, experiment.datasets["signs"].flip  # what is not given has a default
        (1000, 0.5)
    """

    name: PlainName
    taxonomy: Text
    data_root: Line = Field("", description="dataset roots that are not absolute start here")
    hold_out: list[Text] = Field([], description="nodes whose labels are ignored, to see how novel things are met")
    datasets: dict[PlainName, DatasetConfig] = Field(min_length=1)
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()

    @model_validator(mode="after")
    def _names(self):
        if all(d.train is None and d.val is None for d in self.datasets.values()):
            raise ValueError("every dataset has train: null and val: null, so there is nothing to do")
        return self


def _require_effect(experiment: Experiment, document: Document) -> None:
    """Raise HeterosegError for every option with a value of its own that other options keep from taking effect."""
    model, optimiser = experiment.model, experiment.optimiser
    whole = model.backbone.startswith("hf-seg:")
    network = f"{model.backbone!r} is a whole network"
    rules = (
        ("model", "backbone_options", model.backbone in ("lite0", "paper"), f"{model.backbone!r} has none"),
        *(("model", key, whole, network) for key in ("scale", "decoder", "width", "stride")),
        ("optimiser", "backbone_lr", whole, network),
        ("optimiser", "momentum", optimiser.name != "sgd", "only optimiser.name sgd has a momentum"),
        ("optimiser", "power", optimiser.schedule != "poly", "only optimiser.schedule poly has a power"),
        ("optimiser", "halve_at", optimiser.schedule != "piecewise", "only optimiser.schedule piecewise halves"),
    )
    faults = []
    for section, key, idle, reason in rules:
        block = getattr(experiment, section)
        if idle and getattr(block, key) != type(block).model_fields[key].default:
            faults.append(f"{document.where(section, key)}: {section}.{key} has no effect, {reason}; leave it out")
    raise_faults(faults)


def _assign(data: Any, keys: Sequence[str], value: Any, override: str) -> None:
    for key in keys[:-1]:
        if not isinstance(data, dict):
            break
        if data.get(key) is None:  # missing, or a key with nothing behind it
            data[key] = {}
        data = data[key]
    if not isinstance(data, dict):
        above = shortened(".".join(keys[:-1]))
        raise HeterosegError(f"{override}: {above!r} is a single value or a list, so it has no keys")
    data[keys[-1]] = value


def load_experiment(path: Path | str, overrides: Sequence[str] = ()) -> tuple[Experiment, Path]:
    """Read an experiment and apply `key=value` overrides (values are YAML).

    Returns it and the folder that its relative paths start from. Faults raise HeterosegError with file and line; an
    option that cannot take effect beside the others is one.

    Example:
        >>> import tempfile
        >>> text = '''
        ... name: signs
        ... taxonomy: streets-108
        ... datasets: {signs: {root: gtsdb, reader: gtsdb, label_space: gtsdb}}
        ... '''
        >>> with tempfile.TemporaryDirectory() as root:
        ...     path = Path(root, "experiment.yaml")
        ...     _ = path.write_text(text)
        ...     experiment, folder = load_experiment(path, ["train.steps=100"])
        >>> experiment.train.steps, folder == path.parent.resolve()
        (100, True)
    """
    document = read_yaml(path)
    if not isinstance(document.data, dict):
        raise HeterosegError(f"{path}: expected an experiment (keys and values), found {type(document.data).__name__}")
    for override in overrides:
        key, equals, text = override.partition("=")
        told = shortened(override)
        if not equals or not key:
            raise HeterosegError(f"{told!r}: expected key=value, such as train.steps=100")
        try:
            value = parse_yaml(text, Path("x")).data if text.strip() else None
        except HeterosegError as error:
            reason = shortened(error.faults[0].partition(": ")[2])
            raise HeterosegError(f"{told!r}: the part after = is not valid YAML ({reason}); put it in quotes") from None
        keys = tuple(key.split("."))
        _assign(document.data, keys, value, told)
        for old in [loc for loc in document.lines if loc[: len(keys)] == keys]:
            del document.lines[old]
        for end in range(1, len(keys)):  # sections that the file lacks
            document.lines.setdefault(keys[:end], told)
        document.lines[keys] = told  # a fault in it is told with the argument, not with a line of the file
    experiment = document.parse(Experiment)
    _require_effect(experiment, document)
    return experiment, Path(os.path.realpath(path)).parent


def expanded(path: str) -> Path:
    """A path with ~ and $NAME written out; an unknown user raises HeterosegError."""
    return home_expanded(os.path.expandvars(path))


def dataset_root(experiment: Experiment, config: DatasetConfig, folder: Path) -> Path:
    """The folder of a dataset: `root` below `data_root`, both relative to the experiment file; ~ and $NAME expand."""
    return folder / expanded(experiment.data_root) / expanded(config.root)
