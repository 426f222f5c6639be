"""The experiment file: everything that one run is made of, in one YAML."""

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, ValidationInfo, model_validator

from heteroseg.errors import HeterosegError, raise_faults, shortened, text_of
from heteroseg.files import SPECS, Document, PlainName, Strict, faults_of, parse_yaml, read_yaml
from heteroseg.writing import home_expanded

MOST_PIXELS = 2**30  # of a batch


def _rising(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError("expected the smaller number first")
    return limits


WHOLE = ("hf-seg:", "hf-mask:")
"""What the names of networks begin with that are taken whole, with their own decoder."""
NAMED = ("lite0", "lite1", "lite2", "paper")
"""Backbones that have no options."""


def _line(text: str) -> str:
    if any(sign < " " for sign in text):
        raise ValueError("expected a text on one line, without control characters")
    return text


def _text(text: str) -> str:
    if not text:
        raise ValueError("expected a text, not an empty one")
    return _line(text)


def _score(text: str) -> str:
    name, slash, metric = text.rpartition("/")
    if metric not in ("miou", "macc", "acc") or (slash and not name):
        raise ValueError("expected miou, macc or acc, or one of a single dataset as NAME/miou")
    return text


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
Level = Annotated[float, Field(ge=0, le=255)]
Spread = Annotated[float, Field(gt=0, le=255)]
Zoom = Annotated[float, Field(ge=0.01, le=100)]
Zooms = Annotated[tuple[Zoom, Zoom], AfterValidator(_rising)]
# YAML reads 16 as a number
Precision = Annotated[Literal["32", "bf16", "16"], BeforeValidator(lambda v: str(v) if type(v) is int else v)]


class DatasetConfig(Strict):
    """One dataset: where its files lie, how they are read and what their labels mean."""

    root: Text = Field(examples=["parks"], description="folder of the dataset, below data_root")
    reader: Text = Field(examples=["folder"], description="layout of its files; `folder` reads most")
    label_space: Text = Field(examples=["parks.yaml"], description="what its labels mean: a name that ships, or a file")
    options: dict[str, Any] = Field({}, description="arguments of the reader, such as patterns of file names")
    train: Text | None = Field("train", description="split to train on; null: only evaluate")
    val: Text | None = Field("val", description="split to evaluate on; null: only train")
    share: Factor = Field(1.0, description="part of every batch, relative to the other datasets")
    flip: Fraction = Field(0.5, description="chance of a horizontal flip; 0 where left and right have a meaning")
    scale: Zooms = Field((0.5, 2.0), description="range of the random zoom")
    focus: Fraction = Field(0.0, description="chance that a crop is placed around a box")
    rare: Fraction = Field(0.0, description="chance that a draw is for a label, all labels being equally likely")
    paste: float = Field(
        0.0, ge=0, le=100, description="how many of its things are laid into each crop of all datasets"
    )
    paste_of: list[Text] = Field([], description="labels, or nodes above them, that are pasted; []: what is boxed")
    license: str | None = Field(None, description="licence of the data, as told in reports and model cards")
    notes: str | None = Field(None, description="where the data come from, what they must not be used for")


class ModelConfig(Strict):
    """Backbone, decoder and head."""

    backbone: Text = Field(
        "lite0",
        description="encoder: lite0, lite1, lite2, paper, hf:NAME, hf-seg:NAME, hf-mask:NAME, timm:NAME "
        "or python:MODULE:CLASS",
    )
    pretrained: bool = Field(
        default_factory=lambda before: before.get("backbone") == "lite0",
        description="begin with the weights that the backbone is published with; default: true for lite0 alone",
        json_schema_extra={"default": True},
    )
    backbone_options: dict[str, Any] = Field({}, description="sizes of a backbone of transformers or timm")
    mean: tuple[Level, Level, Level] | None = Field(
        None, description="mean of red, green and blue (0 to 255) that the backbone is made for; null: as published"
    )
    std: tuple[Spread, Spread, Spread] | None = Field(None, description="their standard deviation; null: as published")
    freeze: bool = Field(False, description="train only what follows the encoder, which stays as it is")
    lora: int = Field(0, ge=0, le=1024, description="rank of adapters (LoRA) in it, all of it that learns; 0: none")
    scale: float = Field(1.0, ge=0.01, le=1, description="images are shrunk by this first; the strides grow with it")
    decoder: Literal["fpn", "reduction"] = Field("fpn", description="joins the backbone's maps; reduction: the paper's")
    width: Side = Field(128, description="channels of the decoder")
    stride: Side = Field(4, description="output stride of the decoder")
    adapters: bool = Field(False, description="the paper's bottleneck per classifier")
    upsample: bool = Field(False, description="the paper's learned 2x upsampling per classifier")
    void: bool = Field(False, description="the paper's void logit in every classifier")
    branches: list[Text] = Field([], description="classifiers, by node, that get layers of their own")
    branch_gradient: Fraction = Field(0.1, description="part of their gradient that reaches what all share")


@cache
def presets() -> dict[str, ModelConfig]:
    """The shipped networks by their names, specs/presets.yaml."""
    return {name: ModelConfig(**options) for name, options in read_yaml(SPECS / "presets.yaml").data.items()}


class LossConfig(Strict):
    """What a pixel and a box teach, and how much each counts."""

    cell: Side = Field(4, description="one pixel is looked at in every cell x cell block; 1 is full resolution")
    gate: Literal["hard", "soft", "open"] = Field(
        "open",
        description="where boxes teach: open, all over; hard, where their parent is seen; soft, as far as it is seen",
    )
    normalise: Literal["classifier", "pixel"] = Field(
        "pixel", description="what counts the same: pixel, every pixel; classifier, every classifier"
    )
    weights: Weights = Field({}, description="weight by classifier, `default` for the rest")
    box_weights: dict[str, Weight] = Field({}, description="the same for terms from boxes; else as in weights")
    balance: Fraction = Field(0.25, description="pixels weigh like (pixels of their label in the batch) ** -balance")
    matching: Weight = Field(1.0, description="of hf-mask: weight of the loss of queries that are matched with labels")
    class_weights: dict[str, Weight] = Field({}, description="weight by label, as DATASET/LABEL")


class OptimiserConfig(Strict):
    """How the weights move."""

    name: Literal["sgd", "adamw"] = Field("adamw", description="the rule by which they do")
    lr: Factor = Field(2e-3, description="learning rate at its highest")
    backbone_lr: Factor = Field(1.0, description="factor on lr for the backbone")
    weight_decay: Weight = Field(0.02, description="how strongly weights are drawn to 0; norms and biases are not")
    momentum: Decay = Field(0.9, description="momentum of sgd")
    schedule: Literal["poly", "piecewise"] = Field("poly", description="how lr falls: to 0 in the end, or by halves")
    warmup: Count = Field(100, description="steps over which lr rises linearly from 0")
    power: float = Field(0.9, ge=0, le=100, description="of poly: lr falls like (1 - step / steps) ** power")
    halve_at: list[Count] = Field([], description="steps after which a piecewise lr is halved")
    clip: Weight = Field(5.0, description="largest norm of the gradient; 0 is off")


class TrainConfig(Strict):
    """How long, on what, and how often something is written."""

    steps: Positive = Field(1000, description="batches to train on")
    batch: Side = Field(8, description="crops in a batch, of all datasets and processes together")
    crop: tuple[Side, Side] = Field((256, 256), description="height and width of what is cut from an image")
    color: Fraction = Field(0.5, description="chance of each of: brightness, contrast, saturation, hue, blur")
    seed: int = Field(
        0, ge=0, lt=2**32, description="decides first weights, crops and order: with the same seed a run is the same"
    )
    workers: int = Field(1, ge=0, le=1024, description="processes that read images; 0: the training reads them itself")
    ema: Decay = Field(0.998, description="decay of the average of the weights, which is what is kept; 0 is off")
    precision: Precision = Field("32", description="bits of a number; bf16 and 16 are for GPUs")
    devices: Positive | Literal["auto"] = Field("auto", description="GPUs, or processes on a CPU, of this machine")
    nodes: Positive = Field(1, description="machines")
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"] = Field("auto", description="kind of device")
    log_every: Positive = Field(10, description="steps between rows of log.csv")
    logger: Literal["csv", "tensorboard", "wandb", "mlflow"] = Field(
        "csv", description="where the numbers of a run go; log.csv has them in any case"
    )
    save_every: Positive = Field(200, description="steps between saved states, from which --resume goes on")
    evaluate_every: Count = Field(0, description="steps between evaluations; 0: only at the end")
    best: Annotated[str, AfterValidator(_score)] = Field(
        "miou", description="score that chooses best/: miou, macc or acc, mean of all datasets; or of one: parks/miou"
    )
    patience: Count = Field(0, description="evaluations without a better score after which training ends; 0: never")
    freeze_norm: bool = Field(
        False, description="keep the statistics of the norms of the encoder, or of a network that is taken whole"
    )
    begin: Text | None = Field(None, description="MODEL or RUN folder, or hf://owner/name, whose weights are the first")
    grow: Text | None = Field(None, description="node of train.begin: what is new under it is learnt, all else stays")
    teacher: Text | None = Field(
        None, description="MODEL or RUN folder, or hf://owner/name, that teaches where labels do not"
    )
    teacher_weight: Weight = Field(1.0, description="how much it counts beside the labels")

    @model_validator(mode="after")
    def _fits_memory(self):
        pixels = self.batch * self.crop[0] * self.crop[1]
        if pixels > MOST_PIXELS:
            raise ValueError(f"expected batch times crop of at most {MOST_PIXELS} pixels, found {pixels}")
        return self


class AugmentConfig(Strict):
    """What else may happen to a crop, beside zoom, flip and colour; how strongly is drawn up to the number given."""

    chance: Fraction = Field(0.5, description="chance that a crop gets it, for each of the following")
    rotate: float = Field(0, ge=0, le=45, description="turned by up to so many degrees, to either side; 0 is off")
    gamma: float = Field(
        1, ge=1, le=5, description="light: values from 0 to 1 to the power of 1/gamma to gamma; 1 is off"
    )
    fog: Fraction = Field(0, description="part of the light that comes from fog: less contrast, lighter; 0 is off")
    blur: float = Field(0, ge=0, le=20, description="Gaussian blur, its sigma in pixels of the crop; 0 is off")
    noise: float = Field(0, ge=0, le=128, description="standard deviation of noise in each of 0 to 255; 0 is off")
    jpeg: int = Field(
        100, ge=1, le=100, description="least quality of a JPEG that the crop has gone through; 100 is off"
    )


class EvaluateConfig(Strict):
    """How the network answers."""

    decision: Literal["path", "marginal"] = Field(
        "marginal", description="marginal: the label of the largest probability; path: down the larger child"
    )


class Experiment(Strict):
    """A whole run.

    Examples:
        >>> signs = {"root": "gtsdb", "reader": "gtsdb", "label_space": "gtsdb"}
        >>> experiment = Experiment(name="signs", taxonomy="streets-108", datasets={"signs": signs})
        >>> experiment.train.steps, experiment.datasets["signs"].flip  # what is not given has a default
        (1000, 0.5)
    """

    name: PlainName = Field(examples=["mine"], description="name of the run, as reports and cards tell it")
    taxonomy: Text = Field(examples=["tree.yaml"], description="the tree of classes: a name that ships, or a file")
    data_root: Line = Field("", description="dataset roots that are not absolute start here")
    hold_out: list[Text] = Field([], description="nodes whose labels are ignored, to see how novel things are met")
    datasets: dict[PlainName, DatasetConfig] = Field(
        min_length=1, examples=["parks"], description="each by a name of yours"
    )
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    train: TrainConfig = TrainConfig()
    augment: AugmentConfig = AugmentConfig()
    evaluate: EvaluateConfig = EvaluateConfig()

    @model_validator(mode="after")
    def _names(self):
        if all(d.train is None and d.val is None for d in self.datasets.values()):
            raise ValueError("every dataset has train: null and val: null, so there is nothing to do")
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _told(cls, data: Any, handler: Any, info: ValidationInfo) -> Any:
        """In Python pydantic's words are ours too; of a file they are told with its lines."""
        try:
            return handler(data)
        except ValidationError as error:
            if info.context:
                raise
            raise HeterosegError(*(f"Experiment: {text}" for _, text in faults_of(error, cls, ""))) from None


FORMER: dict[str, dict[str, Any]] = {
    "model": {"pretrained": False},
    "loss": {"gate": "hard", "normalise": "classifier", "balance": 0.0},
    "optimiser": {"lr": 1e-3, "weight_decay": 1e-2, "warmup": 0, "clip": 0.0},
    "train": {"ema": 0.0},
}
"""The defaults of keys that had others before the recommended recipe became the default."""


def as_begun(experiment: Experiment, begun: Experiment) -> Experiment:
    """The experiment with what a run began with, in keys that the file leaves out: former defaults, and the network of
    another MODEL."""
    update = {}
    taken: dict[str, dict] = {"train": {"begin": begun.train.begin, "grow": begun.train.grow}}
    made = {"branches", "branch_gradient"} if begun.train.grow else set()
    if begun.train.begin:
        taken["model"] = begun.model.model_dump()
    for section, former in FORMER.items():
        former = former | taken.get(section, {})
        now, then = getattr(experiment, section), getattr(begun, section)
        given = now.model_fields_set - made
        kept = {k: v for k, v in former.items() if k not in given and getattr(then, k) == v}
        update[section] = now.model_copy(update=kept)
    return experiment.model_copy(update=update)


def _require_effect(experiment: Experiment, document: Document) -> None:
    """Raise HeterosegError for every option with a value of its own that other options keep from taking effect."""
    model, optimiser, augment, train = experiment.model, experiment.optimiser, experiment.augment, experiment.train
    whole, of_masks = model.backbone.startswith(WHOLE), model.backbone.startswith("hf-mask:")
    network = f"{model.backbone!r} is a whole network"
    drawn = [key for key in AugmentConfig.model_fields if key != "chance"]
    rules = (
        ("model", "backbone_options", model.backbone in NAMED, f"{model.backbone!r} has none"),
        *(("model", key, whole, network) for key in ("scale", "decoder", "width", "stride", "branches")),
        ("model", "branch_gradient", not model.branches, "there are no model.branches"),
        ("augment", "chance", augment == AugmentConfig(chance=augment.chance), "augment sets nothing else"),
        *(("augment", key, augment.chance == 0, "augment.chance is 0") for key in drawn),
        *(("model", key, of_masks, f"{model.backbone!r} has queries") for key in ("adapters", "upsample")),
        ("loss", "matching", not of_masks, f"{model.backbone!r} has no queries"),
        ("optimiser", "backbone_lr", whole, network),
        ("train", "patience", not train.evaluate_every, "with train.evaluate_every 0 only the end is scored"),
        ("train", "grow", not train.begin, "there is no train.begin"),
        ("train", "teacher_weight", not train.teacher, "there is no train.teacher"),
        ("model", "freeze", model.lora > 0, "model.lora keeps all of the encoder but its adapters as it is"),
        ("model", "lora", train.grow is not None, "train.grow keeps the encoder as it is"),
        ("optimiser", "backbone_lr", model.freeze, "model.freeze keeps the backbone as it is"),
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

    Examples:
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
    overrides = [text_of(override, "key=value, such as train.steps=100") for override in overrides]
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
    return home_expanded(os.path.expandvars(path) or ".")


def dataset_root(experiment: Experiment, config: DatasetConfig, folder: Path) -> Path:
    """The folder of a dataset: `root` below `data_root`, both relative to the experiment file; ~ and $NAME expand."""
    return folder / expanded(experiment.data_root) / expanded(config.root)
