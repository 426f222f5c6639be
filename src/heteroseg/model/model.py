"""A trained network as a folder, and what it says about an image.

MODEL holds `model.safetensors`, `config.json`, `taxonomy.yaml` and `label_spaces/*.yaml`: nothing else is needed. One
that is handed on has its card, `README.md`, too.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from safetensors.torch import save_file

from heteroseg.datasets.image_files import rgb_pixels
from heteroseg.decisions.plan import Plan, plan_decode
from heteroseg.decisions.reference import RULES, Rule
from heteroseg.errors import HeterosegError, nearest, require_one_of, shortened, text_of
from heteroseg.experiment.config import WHOLE, Factor, ModelConfig
from heteroseg.files import Document, PlainName, Strict, read_json, read_text, write_text, write_yaml
from heteroseg.labels.space import LabelSpace, LabelSpaceFile, build_label_space, load_label_space, own_space
from heteroseg.labels.taxonomy import Taxonomy, TaxonomyFile, build_taxonomy, load_taxonomy
from heteroseg.model.branched import logits_of
from heteroseg.model.card import model_card
from heteroseg.model.checking import WEIGHTS, checksums, fill, read_weights, require_unchanged
from heteroseg.model.devices import best_device, require_device
from heteroseg.model.exported import FORMATS, ExportedNetwork, prepare, require_known
from heteroseg.model.hub import PREFIX, download, parse_name, require_inside, upload
from heteroseg.model.prediction import Prediction
from heteroseg.model.promise import Promise
from heteroseg.model.run_folder import OLD
from heteroseg.model.views import ALONE, averaged, require_taken, views_of
from heteroseg.networks.backbone import require_trusted
from heteroseg.networks.branches import branched
from heteroseg.networks.network import Network, build_network
from heteroseg.networks.portable import portable_config, require_portable
from heteroseg.writing import filling, home_expanded, is_free, part_of, written

SHIPPED = Path(__file__).parents[1] / "models" / "demo"
"""A small network for the drawn street scenes, made by benchmarks/demo_model.py."""
MOST_SPACES = 1000
HIGHEST = 65535  # of an id in a PNG
BATCH = 8  # images that go through a network together
Picture = np.ndarray | str | Path | Image.Image
DROPPED = 10**7  # parameters of layers that a backbone is built with and that are dropped, such as of 1,000 classes


class ModelFile(Strict):
    """config.json of a MODEL folder."""

    format: Literal[1] = 1
    name: PlainName
    model: ModelConfig
    decision: Rule = "marginal"
    label_spaces: list[PlainName] = Field(max_length=MOST_SPACES)
    temperatures: dict[str, Factor] = Field({}, description="by node; the weights are divided by them already")
    promise: Promise | None = Field(None, description="least probabilities of nodes; of calibrated MODELs")
    checksums: dict[str, str] = Field({}, description="SHA-256 by file; older MODELs have none")


@dataclass(repr=False)
class Model:
    """A network with the taxonomy and the label spaces that it was trained with.

    `spaces` are by name, `origin` is the folder that it was loaded from, and by `temperatures`, by name of the
    classifier's node, the weights are divided already. `tta` is what `predict` does where nothing else is asked for,
    `promise` what `heteroseg calibrate` found out.

    Examples:
        >>> from heteroseg import Model, load_label_space
        >>> from heteroseg.experiment.config import ModelConfig
        >>> from heteroseg.networks.network import build_network
        >>> config = ModelConfig(pretrained=False, width=16)
        >>> space = load_label_space("camvid11")
        >>> network = build_network(config, space.taxonomy)
        >>> model = Model("tiny", network, space.taxonomy, {space.name: space}, config)
        >>> model.predict(np.zeros((48, 64, 3), np.uint8)).labels("camvid11").shape
        (48, 64)
        >>> model.space("leaves").name
        'leaves'
    """

    name: str
    network: Network | ExportedNetwork
    taxonomy: Taxonomy
    spaces: dict[str, LabelSpace]
    config: ModelConfig
    decision: Rule = "marginal"
    origin: Path | None = None
    temperatures: dict[str, float] = field(default_factory=dict)
    tta: Any = None
    promise: Promise | None = None

    def __post_init__(self) -> None:
        require_one_of("decision", self.decision, RULES)
        views_of(self.tta)

    def __repr__(self) -> str:
        labels = ", ".join(self.spaces) or "no label space"
        return f"Model({self.name!r}, {self.config.backbone}, {len(self.taxonomy.leaves)} leaves, {labels})"

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        revision: str | None = None,
        device: str | torch.device = "cpu",
        trust: str | None = None,
        **options: Any,
    ) -> "Model":
        """Load a model from a hub ('owner/name') or a folder, as huggingface_hub's users expect it.

        A name that could be both raises HeterosegError. `trust` is that of `load`, `options` are those of
        `huggingface_hub.snapshot_download`.
        `heteroseg.load` has no such doubt: a folder, or hf://owner/name.
        """
        text = str(name)
        if isinstance(name, str) and not text.startswith((PREFIX, "/", ".", "~")) and text.count("/") == 1:
            if Path(text).exists():
                told = "could be a model on the hub or the folder of that name here"
                raise HeterosegError(f"{text}: {told}; write {PREFIX}{text} or ./{text}")
            text = PREFIX + text
        folder = download(text, revision, **options) if text.startswith(PREFIX) else home_expanded(text)
        return load(folder, device, trust)

    def save_pretrained(self, folder: str | Path, license: str | None = None) -> Path:
        """Write a MODEL folder with its card (README.md), filled in from the run that the model was loaded from.

        `license` is that of the weights, as hubs write it ('cc-by-nc-4.0'). The folder must be new or empty.
        """
        folder = home_expanded(folder)
        handed_on = self.origin and self.origin / "README.md"
        if handed_on and handed_on.is_file() and license is None:  # before: the card stays
            require_inside(handed_on)
            card = read_text(handed_on)
        else:
            card = model_card(self, license)
        with filling(folder, {"command": "share", "weights": self.digest, "license": license}):
            write_text(folder / "README.md", card)
            _write_files(self, folder)
        return folder

    def push_to_hub(self, name: str, license: str | None = None, **options: Any) -> str:
        """Upload the model and its card as 'owner/name' or 'owner/name@branch'; returns the address.

        `options`: private, token, message, create_pr; see heteroseg.model.hub.upload.
        """
        with tempfile.TemporaryDirectory() as temporary:
            folder = self.save_pretrained(Path(temporary) / "model", license)
            card = read_text(folder / "README.md")
            write_text(folder / "README.md", card.replace("hf://OWNER/NAME", PREFIX + parse_name(name)[0]))
            return upload(folder, name, **options)

    @property
    def torch_network(self) -> Network:
        """The network with its weights; an exported one raises HeterosegError."""
        if not isinstance(self.network, Network):
            raise HeterosegError("an exported network cannot be saved as a MODEL; it is a file already")
        return self.network

    @cached_property
    def digest(self) -> str:
        """16 hex digits that change with any weight."""
        if isinstance(self.network, ExportedNetwork):
            return self.network.digest
        digest = hashlib.sha256()
        for name, value in sorted(self.network.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    def space(self, name: str | Path) -> LabelSpace:
        """A label space by its name, 'leaves' for the taxonomy's own, or from a YAML file for the same taxonomy."""
        names, name = [*self.spaces, "leaves"], text_of(name, "the name of a label space")
        if name in names:
            return self.spaces.get(name) or own_space(self.taxonomy)
        if name.endswith((".yaml", ".yml")):
            return load_label_space(name, self.taxonomy)
        told = f"it has {', '.join(names)}; a label space of your own is named by its path, ending .yaml"
        raise HeterosegError(f"the model has no label space {name!r}{nearest(name, names)}; {told}")

    def plan(self, space: str | LabelSpace | None, ids: bool = False) -> Plan:
        """The tables for decisions in a label space (None: nodes). One over another tree raises HeterosegError."""
        space = space if isinstance(space, LabelSpace | None) else self.space(space)
        if space is not None and not space.taxonomy.same_tree(self.taxonomy):
            told = f"belongs to taxonomy {space.taxonomy.name!r}, the model to {self.taxonomy.name!r}, another tree"
            raise HeterosegError(f"label space {space.name!r} {told}; take one for the model's taxonomy")
        return plan_decode(self.taxonomy if space is None else space, self.decision, ids)

    @overload
    def predict(self, image: Picture, tta: Any = None) -> Prediction: ...
    @overload
    def predict(self, image: list[Picture] | tuple[Picture, ...], tta: Any = None) -> list[Prediction]: ...
    @torch.inference_mode()
    def predict(
        self, image: Picture | list[Picture] | tuple[Picture, ...], tta: Any = None
    ) -> Prediction | list[Prediction]:
        """Run the network on one image: (H, W, 3) uint8 RGB, (H, W) grey, a path, or an image of Pillow; or on a list.

        Both of the latter are turned upright. Anything else raises HeterosegError. Several threads may ask at once. On
        a GPU neighbours of one size in a list go through the network together, BATCH at most. `tta`, such as
        "0.75,1,1.25,flip", averages the image in these scales and mirrored; True is 0.75, 1 and 1.25, False the image.
        """
        views = views_of(self.tta if tta is None else tta)
        if not isinstance(image, list | tuple):
            pair = rgb_pixels(image), image
            if views == ALONE:
                return self._predict([pair])[0]
            require_taken(self.network, views)
            mean = averaged(pair[0], views, lambda view: self._predict([(view, view)])[0])
            return Prediction(self, mean, *pair, views)
        if views != ALONE or isinstance(self.network, ExportedNetwork) or self.network.mean.device.type == "cpu":
            return [self.predict(each, tta) for each in image]  # where a batch is no quicker
        pairs = [(rgb_pixels(each), each) for each in image]
        alike = [list(group) for _, group in groupby(pairs, key=lambda pair: pair[0].shape)]
        return [p for group in alike for i in range(0, len(group), BATCH) for p in self._predict(group[i : i + BATCH])]

    def _predict(self, pairs: Sequence[tuple[np.ndarray, Picture]]) -> list[Prediction]:
        """Run the network on images of one size, each beside what was given for it."""
        images = [image for image, _ in pairs]
        if isinstance(self.network, ExportedNetwork):
            output: Any = [self.network.logits(prepare(image, self.network)) for image in images]
        else:
            pixels = torch.from_numpy(np.require(np.stack(images), requirements=["C", "W"])).permute(0, 3, 1, 2)
            network = self.network.eval()
            output = logits_of(network, network.prepare(pixels.to(network.mean.device)))
        return [Prediction(self, one, *pair) for one, pair in zip(output, pairs, strict=True)]


def model_file(model: Model) -> ModelFile:
    """What describes a model besides its tree, label spaces and weights. What `load` would refuse raises."""
    config, spaces = portable_config(model.config, model.torch_network), list(model.spaces)
    values = {"name": model.name, "model": config, "decision": model.decision, "label_spaces": spaces}
    where = f"model {shortened(repr(model.name))}"
    values |= {"temperatures": model.temperatures, "promise": model.promise}
    file = Document(Path(where), values).parse(ModelFile)
    _require_fit(file, model.taxonomy, model.spaces, where)
    return file


def _require_fit(file: ModelFile, taxonomy: Taxonomy, spaces: dict[str, LabelSpace], where: str) -> None:
    """Raise HeterosegError for temperatures of what is no classifier, and for ids that no prediction can hold."""
    classifiers = [taxonomy.names[c.node] for c in taxonomy.classifiers]
    if other := next((name for name in file.temperatures if name not in classifiers), None):
        raise HeterosegError(f"{where}: temperatures: expected classifiers of the tree, found {other!r:.80}; remove it")
    if file.promise and any(len(row) != max(taxonomy.depths) for row in file.promise.least.values()):
        raise HeterosegError(f"{where}: promise: expected a probability for each depth of the tree; calibrate it again")
    for name, space in spaces.items():
        if (highest := max(*space.ids.tolist(), space.outside)) > HIGHEST:
            told = f"expected ids up to {HIGHEST}, which image files hold, found {highest}; renumber the labels"
            raise HeterosegError(f"{where}: label space {name!r}: {told}")


def _write_files(model: Model, folder: Path) -> None:
    """Write the files of a MODEL folder, last the one by which it is known."""
    file = model_file(model)
    for name, space in model.spaces.items():
        write_yaml(folder / "label_spaces" / f"{name}.yaml", space.file.model_copy(update={"name": name}))
    write_yaml(folder / "taxonomy.yaml", model.taxonomy.to_file())
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.torch_network.state_dict().items()}
    with written(folder / WEIGHTS) as weights:
        save_file(tensors, weights)
    file = file.model_copy(update={"checksums": checksums(folder, model.spaces, file.model_dump(mode="json"))})
    write_text(folder / "config.json", file.model_dump_json(indent=2) + "\n")


def save_model(model: Model, folder: Path) -> None:
    """Write a MODEL folder: whole under a temporary name, then put in the place of the old one."""
    part = part_of(folder)
    shutil.rmtree(part, ignore_errors=True)  # of a killed run
    try:
        _write_files(model, part)
        old = folder.with_name(f"{OLD}{folder.name}")
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)  # where `load` finds it if we are killed here
        part.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _standing(folder: Path) -> Path:
    """A MODEL folder, or where it lies while a newer one takes its place, which a killed process may not have done."""
    old = folder.with_name(f"{OLD}{folder.name}") if folder.name else folder
    return old if not folder.exists() and (old / "config.json").is_file() else folder


def _model_folder(folder: Path, path: str | Path) -> Path:
    """The MODEL in a folder, which the user calls `path`: itself, or best/ of a RUN. None raises HeterosegError."""
    if not (folder / "config.json").is_file() and (best := _standing(folder / "best")).is_dir():
        folder = best
    folder = _standing(folder)
    if not (folder / "config.json").is_file():
        if (folder / "last").is_dir():
            told = "name its last/ as the MODEL, or go on with `heteroseg train --resume`"
            raise HeterosegError(f"{path}: this RUN was stopped before it had a best/; {told}")
        told = "expected a MODEL folder (config.json, model.safetensors, taxonomy.yaml) or a RUN with best/"
        found = "another folder" if folder.is_dir() else "no such folder"
        hint = "`heteroseg train` writes one, and a model on a hub is named hf://owner/name"
        raise HeterosegError(f"{path}: {told}, found {found}; {hint}")
    return folder


def load(path: str | Path, device: str | torch.device = "cpu", trust: str | None = None) -> Model:
    """Load a MODEL folder (or the `best/` of a RUN folder), a file that `heteroseg export` wrote (CPU only), from a
    hub: hf://owner/name or hf://owner/name@revision, or "demo", which ships, where nothing else has this name.

    `device` "auto" is a GPU where there is one. Code of a class that a MODEL names as backbone, python:MODULE:CLASS,
    only runs where `trust`, MODULE:CLASS, names it too. What is none of these, a damaged file, and a device that this
    machine lacks raise HeterosegError.

    Examples:
        >>> from heteroseg import load
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_model(model, Path(folder, "model"))
        ...     loaded = load(Path(folder, "model"))
        >>> loaded.name, loaded.digest == model.digest
        ('tiny', True)
    """
    folder = download(path) if isinstance(path, str) and path.startswith(PREFIX) else home_expanded(path)
    if path == SHIPPED.name and is_free(folder):
        folder = SHIPPED
    if device == "auto":
        device = "cpu" if folder.suffix in FORMATS else best_device()
    if folder.suffix in FORMATS and str(device).partition(":")[0] != "cpu":
        raise HeterosegError(f"{path}: an exported network runs on the cpu, found device {str(device)!r}")
    require_device(device)
    try:
        folder.stat()
    except FileNotFoundError:
        pass  # is told below
    except (OSError, ValueError) as error:
        raise HeterosegError(f"{path}: expected a MODEL, found {getattr(error, 'strerror', None) or error}") from None
    if folder.suffix in FORMATS:
        return _exported(ExportedNetwork(folder))
    config_file = (folder := _model_folder(folder, path)) / "config.json"
    config_data = read_json(config_file)
    require_known(config_data, config_file)
    file = Document(config_file, config_data).parse(ModelFile)
    where = str(config_file)
    config = require_portable(file.model, where).model_copy(update={"pretrained": False})  # the weights are here
    require_trusted(config.backbone, where, trust)
    taxonomy = load_taxonomy("taxonomy.yaml", folder, void=file.model.void)
    names = dict.fromkeys(file.label_spaces)
    spaces = {n: load_label_space(f"{n}.yaml", taxonomy, folder / "label_spaces") for n in names}
    _require_fit(file, taxonomy, spaces, where)
    weights = read_weights(folder / WEIGHTS)
    most = 2 * sum(tensor.numel() for tensor in weights.values()) + DROPPED
    network = build_network(config, taxonomy, most)
    fill(network, weights, folder / WEIGHTS, taxonomy.channels)
    if file.checksums:  # those of an older heteroseg have none
        require_unchanged(folder, spaces, config_data)
    known = file.decision, folder, file.temperatures
    return Model(file.name, network.to(device), taxonomy, spaces, config, *known, promise=file.promise)


def _exported(network: ExportedNetwork) -> Model:
    data, path = network.metadata, network.path
    require_known(data["file"], path)
    file = Document(path, data["file"]).parse(ModelFile)
    config = require_portable(file.model, str(path))
    taxonomy = build_taxonomy(Document(path, data["taxonomy"]).parse(TaxonomyFile), void=file.model.void)
    files = {name: Document(path, entry).parse(LabelSpaceFile) for name, entry in data["label_spaces"].items()}
    spaces = {name: build_label_space(file, taxonomy) for name, file in files.items()}
    if list(spaces) != file.label_spaces:
        told = f"label_spaces: expected those that it names, {file.label_spaces}, found {list(spaces)}"
        raise HeterosegError(f"{path}: {told}; export the MODEL again")
    _require_fit(file, taxonomy, spaces, str(path))
    stride = None if config.backbone.startswith(WHOLE) else config.stride
    cuts, branches = [0, *(c.stop for c in taxonomy.classifiers)], branched(config.branches, taxonomy)
    network.require_fit(cuts, stride, 1 + config.upsample, branches)
    known = file.decision, None, file.temperatures
    return Model(file.name, network, taxonomy, spaces, config, *known, promise=file.promise)
