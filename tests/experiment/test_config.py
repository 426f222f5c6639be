"""Experiment files: every fault is told with its place, arguments override keys, and roots are found."""

from pathlib import Path

import pytest

import heteroseg
from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import Experiment, dataset_root, load_experiment
from heteroseg.experiment.sources import open_spaces

SOUND = """\
name: e
taxonomy: streets-108
datasets:
  city: {root: city, reader: cityscapes, label_space: cityscapes}
train:
  steps: 7
  crop: [64, 96]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "e.yaml"
    path.write_text(text)
    return path


def faults(folder: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(HeterosegError) as error:
        load_experiment(write(folder, text), overrides)
    assert all("\n" not in fault for fault in error.value.faults)
    return list(error.value.faults)


def test_a_sound_file(tmp_path):
    experiment, folder = load_experiment(write(tmp_path, SOUND))
    assert folder == tmp_path.resolve()
    assert experiment.train.steps == 7
    assert experiment.train.crop == (64, 96)
    assert experiment.datasets["city"].train == "train"
    assert experiment.optimiser.name == "adamw"


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        (
            "steps: 7",
            "stepps: 7",
            6,
            ["train.stepps", "no such key", "did you mean 'steps'?", "(known: steps, batch, crop,"],
        ),
        ("train:\n", "trian:\n", 5, ["trian", "did you mean 'train'?"]),
        ("label_space: city", "label_spce: city", 4, ["datasets.city.label_spce", "did you mean 'label_space'?"]),
        ("steps: 7", "steps: many", 6, ["train.steps", "whole number", "'many'"]),
        ("steps: 7", "steps: 0", 6, ["train.steps", "greater than 0", "found 0"]),
        ("crop: [64, 96]", "crop: [64, x]", 7, ["train.crop.1", "whole number", "'x'"]),
        ("crop: [64, 96]", "crop: [64]", 7, ["train.crop.1", "expected a value, found none"]),
        ("taxonomy: streets-108\n", "", 1, ["taxonomy: expected a value, found none"]),
        ("reader: cityscapes, ", "", 4, ["datasets.city.reader: expected a value, found none"]),
        ("  steps: 7", "\tsteps: 7", 6, ["not valid YAML"]),
        ("name: e", "name: e\nname: f", 2, ["'name'", "twice", "line 1"]),
        ("label_space: cityscapes}", "label_space: cityscapes, train: null, val: null}", 1, ["nothing to do"]),
    ],
)
def test_each_fault_is_told_with_its_line(tmp_path, old, new, line, said):
    assert old in SOUND
    found = faults(tmp_path, SOUND.replace(old, new))
    matching = [f for f in found if f.startswith(f"{tmp_path / 'e.yaml'}:{line}: ") and all(s in f for s in said)]
    assert matching, found


def test_all_faults_are_told_at_once(tmp_path):
    text = SOUND.replace("steps: 7", "stepps: 7").replace("crop: [64, 96]", "batch: none").replace("name: e\n", "")
    found = faults(tmp_path, text)
    assert len(found) == 3
    assert [any(key in f for f in found) for key in ("name: expected", "train.stepps", "train.batch")] == [True] * 3


@pytest.mark.parametrize(
    ("override", "told"),
    [
        *((f"train.seed={n}", "greater than or equal to 0") for n in (-1, -(10**300))),
        *((f"{key}=true", "expected a number") for key in ("train.steps", "train.seed", "optimiser.lr", "model.width")),
        *((f"{key}=.inf", "a finite number") for key in ("optimiser.lr", "datasets.city.share", "loss.weights.root")),
        *((f"{key}=1e30", "less than") for key in ("optimiser.lr", "datasets.city.share", "optimiser.clip")),
        ("train.seed=4294967296", "less than"),
        ("train.crop=[65536, 64]", "less than or equal to 16384"),
        ("train={batch: 16384, crop: [16384, 16384]}", "at most 1073741824 pixels"),
        ("loss.cell=1e22", "whole number"),
        ("loss.weights={default: 0}", "above 0"),
        ("loss.weights={default: 0, root: 0}", "above 0"),
        ("loss.weights={root: -1}", "greater than or equal to 0"),
        ("loss.class_weights={city/car: -1}", "greater than or equal to 0"),
        ("datasets.city.scale=[2, 0.5]", "smaller number first"),
        ("datasets.city.root=''", "not an empty one"),
        ("datasets.city.reader=''", "not an empty one"),
        ("datasets.city.label_space=''", "not an empty one"),
        ('datasets.city.root="a\\0b"', "control characters"),
        ("datasets.city.train=''", "not an empty one"),
        ("taxonomy=''", "not an empty one"),
        ("model.backbone=''", "not an empty one"),
        ("name=''", "plain name"),
        ("train.accelerator=cuba", "'cuda'"),
    ],
)
def test_every_number_and_name_has_bounds(tmp_path, override, told):
    (fault,) = faults(tmp_path, SOUND, override)
    assert fault.startswith(override[:80])
    assert told in fault
    assert "Input should" not in fault


def test_long_values_are_told_by_their_first_80_characters(tmp_path):
    for value in ("x" * 5000, "[" + "1, " * 5000 + "1]"):
        (fault,) = faults(tmp_path, SOUND, f"train.steps={value}")
        assert len(fault) < 300
    (fault,) = faults(tmp_path, SOUND.replace("steps: 7", f"steps: {'x' * 5000}"))
    assert len(fault) < 300 + len(str(tmp_path))
    (fault,) = faults(tmp_path, SOUND.replace("steps: 7", f"{'x' * 5000}: 7"))
    assert len(fault) < 300 + len(str(tmp_path))


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words\n"])
def test_a_file_of_something_else(tmp_path, text):
    assert "expected an experiment" in faults(tmp_path, text)[0]


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(HeterosegError, match=r"nowhere\.yaml: cannot be read, No such file"):
        load_experiment(tmp_path / "nowhere.yaml")
    with pytest.raises(HeterosegError, match="cannot be read, expected a file, found a folder"):
        load_experiment(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: stra\xdfe\n")
    with pytest.raises(HeterosegError, match=r"latin\.yaml: expected a text file in UTF-8"):
        load_experiment(tmp_path / "latin.yaml")


def test_overrides_set_keys_and_create_blocks(tmp_path):
    overrides = ["train.steps=5", "loss.weights.root=0.5", "train.crop=[32, 48]", "datasets.city.val=null", "name=a=b"]
    experiment, _ = load_experiment(write(tmp_path, SOUND), overrides)
    assert experiment.train.steps == 5
    assert experiment.train.crop == (32, 48)
    assert experiment.loss.weights == {"root": 0.5}  # the file has no block `loss`
    assert experiment.datasets["city"].val is None
    assert experiment.name == "a=b"


def test_the_last_override_wins(tmp_path):
    assert load_experiment(write(tmp_path, SOUND), ["train.steps=5", "train.steps=6"])[0].train.steps == 6


def test_an_empty_block_can_be_filled(tmp_path):
    text = SOUND[: SOUND.index("  steps")]
    assert load_experiment(write(tmp_path, text), ["train.steps=5"])[0].train.steps == 5


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.steps", ["'train.steps': expected key=value"]),
        ("=5", ["'=5': expected key=value"]),
        ("train.steps=[", ["'train.steps=['", "not valid YAML"]),
        (f"train.steps={'[' * 3000}", ["'train.steps=[[[", "not valid YAML"]),
        (f"train.steps=0x{'f' * 5000}", ["'train.steps=0xfff", "not valid YAML"]),
        ("train={steps: 1, steps: 2}", ["'train={steps: 1, steps: 2}'", "not valid YAML"]),
        ("name=2024-13-45", ["'name=2024-13-45'", "not valid YAML"]),
        ("name.x=1", ["name.x=1: 'name'", "has no keys"]),
        ("train.crop.height=1", ["train.crop.height=1: 'train.crop'", "has no keys"]),
        # a wrong value is told with the argument that gave it, not with the line that it replaced
        ("train.steps=many", ["train.steps=many: train.steps", "whole number"]),
        ("train={steps: many}", ["train={steps: many}: train.steps", "whole number"]),
        (
            "trian.steps=5",
            ["trian.steps=5: trian: there is no such key", "did you mean 'train'?"],
        ),  # had a line of the file
        ("train.stps=5", ["train.stps=5: train.stps", "did you mean 'steps'?"]),
    ],
)
def test_faults_of_overrides(tmp_path, override, said):
    (fault,) = faults(tmp_path, SOUND, override)
    assert fault.startswith(said[0])
    assert all(s in fault for s in said)


@pytest.mark.parametrize(
    "override",
    [
        "datasets.city.scale=[0, 1]",
        "datasets.city.scale=[2, 1]",
        "datasets.city.scale=[.nan, 1]",
        "datasets.city.scale=[1, .inf]",
        "datasets.city.share=.inf",
        "datasets.city.flip=yes",
        "model.scale=1.0e-300",
        "model.width=100000000",
        "loss.weights={default: -1}",
        "loss.box_weights={default: .nan}",
        "loss.class_weights={city/road: .inf}",
        "optimiser.power=-1.0e+9",
        "optimiser.lr=.inf",
        "optimiser.lr=1.0e+30",
        "optimiser.backbone_lr=.inf",
        "optimiser.weight_decay=.inf",
        "optimiser.momentum=1",
        "optimiser.clip=.inf",
        "optimiser.halve_at=[-1]",
        "train.ema=1",
        "train.seed=-1",
        "train.seed=100000000000000000000000",
        "train.steps=100000000000000000000000",
        "train.steps=yes",
        "train.crop=[1000000000, 1000000000]",
        "train.crop=[yes, 64]",
        "loss.weights={root: yes}",
        "train.devices=yes",
        "train.workers=-1",
        "train.workers=no",
        "train.devices=0",
        "train.devices=-3",
        "augment.rotate=90",
        "augment.gamma=0.5",
        "augment.fog=2",
        "augment.blur=.nan",
        "augment.noise=-1",
        "augment.jpeg=0",
        "augment.jpeg=50.5",
        "augment.chance=yes",
    ],
)
def test_every_number_has_bounds(tmp_path, override):
    assert [fault for fault in faults(tmp_path, SOUND, override) if not fault.startswith(f"{override}: ")] == []


def test_two_label_spaces_of_one_name(tmp_path):
    """A MODEL keeps its label spaces by name, so one of two would be lost."""
    (tmp_path / "t.yaml").write_text("name: t\ntree: {root: [a, b]}\n")
    for file, node in (("x.yaml", "a"), ("y.yaml", "b")):
        (tmp_path / file).write_text(f"name: same\ntaxonomy: t.yaml\nlabels: [{{id: 0, name: l, nodes: {node}}}]\n")
    text = "name: e\ntaxonomy: t.yaml\ndatasets:\n"
    text += "".join(f"  {d}: {{root: r, reader: folder, label_space: {d}.yaml}}\n" for d in "xy")
    with pytest.raises(HeterosegError, match=r"datasets\.y: y\.yaml: expected a name of its own .* called 'same'"):
        open_spaces(*load_experiment(write(tmp_path, text)))
    open_spaces(*load_experiment(write(tmp_path, text.replace("y.yaml", "x.yaml"))))  # one file may serve two datasets


def test_more_labels_than_a_run_can_number(tmp_path):
    text = "name: e\ntaxonomy: t.yaml\ndatasets:\n"
    (tmp_path / "t.yaml").write_text("name: t\ntree: {root: [a, b]}\n")
    for d in "xy":
        rows = "".join(f"- {{id: {i}, name: l{i}, ignore: true}}\n" for i in range(17_000))
        (tmp_path / f"{d}.yaml").write_text(f"name: {d}\ntaxonomy: t.yaml\nlabels:\n{rows}")
        text += f"  {d}: {{root: r, reader: folder, label_space: {d}.yaml}}\n"
    with pytest.raises(HeterosegError, match="expected at most 32767 labels together, found 34000"):
        open_spaces(*load_experiment(write(tmp_path, text)))


@pytest.mark.parametrize(
    ("overrides", "key", "reason"),
    [
        (
            ["model.backbone=lite0", "model.backbone_options={depths: [1]}"],
            "model.backbone_options",
            "'lite0' has none",
        ),
        (
            ["model.backbone=paper", "model.backbone_options={depths: [1]}"],
            "model.backbone_options",
            "'paper' has none",
        ),
        (["model.backbone=hf-seg:segformer", "model.scale=0.5"], "model.scale", "a whole network"),
        (["model.backbone=hf-seg:segformer", "model.decoder=reduction"], "model.decoder", "a whole network"),
        (["model.backbone=hf-seg:segformer", "model.width=64"], "model.width", "a whole network"),
        (["model.backbone=hf-seg:segformer", "model.stride=8"], "model.stride", "a whole network"),
        (["model.backbone=hf-seg:segformer", "optimiser.backbone_lr=0.1"], "optimiser.backbone_lr", "a whole network"),
        (["model.backbone=hf-mask:eomt", "model.upsample=true"], "model.upsample", "has queries"),
        (["model.lora=4", "model.freeze=true"], "model.freeze", "model.lora keeps all of the encoder"),
        (["train.begin=demo", "train.grow=root", "model.lora=4"], "model.lora", "train.grow keeps the encoder"),
        (["optimiser.momentum=0.5"], "optimiser.momentum", "only optimiser.name sgd"),
        (["optimiser.schedule=piecewise", "optimiser.power=1"], "optimiser.power", "only optimiser.schedule poly"),
        (["optimiser.halve_at=[5]"], "optimiser.halve_at", "only optimiser.schedule piecewise"),
        (["augment.chance=0.9"], "augment.chance", "augment sets nothing else"),
        (["augment.chance=0", "augment.rotate=5"], "augment.rotate", "augment.chance is 0"),
    ],
)
def test_an_option_without_effect_is_a_fault(tmp_path, overrides, key, reason):
    (fault,) = faults(tmp_path, SOUND, *overrides)
    assert fault.startswith(f"{overrides[-1]}: {key} has no effect, ")
    assert reason in fault


def test_options_without_effect_are_told_with_their_lines(tmp_path):
    text = SOUND + "optimiser:\n  momentum: 0.5\n  power: 2.0\n  halve_at: [3]\n"
    path = tmp_path / "e.yaml"
    assert [fault.partition(" ")[0] for fault in faults(tmp_path, text)] == [f"{path}:9:", f"{path}:11:"]


def test_options_that_take_effect_or_say_the_default_are_sound(tmp_path):
    default = ["optimiser.momentum=0.9", "optimiser.halve_at=[]", "model.backbone_options={}", "model.width=128"]
    load_experiment(write(tmp_path, SOUND), default)
    for name in ("model.backbone=hf:resnet", "model.backbone=timm:resnet18"):
        used = ["model.backbone_options={depths: [1]}", "model.width=64", "model.stride=8", "model.scale=0.5"]
        load_experiment(write(tmp_path, SOUND), [name, *used, "optimiser.backbone_lr=0.1"])
    paper = ["name=sgd", "momentum=0.5", "schedule=piecewise", "halve_at=[5]"]
    load_experiment(write(tmp_path, SOUND), [f"optimiser.{option}" for option in paper])


def test_a_stored_experiment_with_an_idle_option_still_loads(tmp_path):
    stored = load_experiment(write(tmp_path, SOUND))[0].model_dump()
    stored["optimiser"]["halve_at"] = [5]
    assert Experiment.model_validate(stored).optimiser.halve_at == [5]


def experiment(data_root: str, root: str) -> Experiment:
    city = {"root": root, "reader": "cityscapes", "label_space": "cityscapes"}
    return Experiment(name="e", taxonomy="t", data_root=data_root, datasets={"city": city})


@pytest.mark.parametrize(
    ("data_root", "root", "expected"),
    [
        ("", "city", "/exp/city"),
        ("data", "city", "/exp/data/city"),
        ("../data", "city", "/exp/../data/city"),
        ("/data", "city", "/data/city"),
        ("/data", "/other/city", "/other/city"),
        ("~/data", "city", "/home/me/data/city"),
        ("data", "~/city", "/home/me/city"),
        ("$STORE/data", "city", "/store/data/city"),
        ("data", "${STORE}/city", "/store/city"),
    ],
)
def test_where_a_dataset_lies(monkeypatch, data_root, root, expected):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("STORE", "/store")
    e = experiment(data_root, root)
    assert dataset_root(e, e.datasets["city"], Path("/exp")) == Path(expected)


SHIPPED = [
    Path(heteroseg.__file__).parent / "specs" / "experiments" / "demo.yaml",
    Path(__file__).parents[2] / "experiments" / "real.yaml",
]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_experiments_load(path):
    loaded, folder = load_experiment(path)
    tree, spaces = open_spaces(loaded, folder)
    assert len(spaces) == len(loaded.datasets)
    assert all(space.taxonomy is tree for space in spaces)


def test_without_a_data_root_roots_start_at_the_file(tmp_path):
    experiment, folder = load_experiment(write(tmp_path, SOUND))
    assert dataset_root(experiment, experiment.datasets["city"], folder) == tmp_path.resolve() / "city"


DATASET = {"root": ".", "reader": "gtsdb", "label_space": "gtsdb"}


@pytest.mark.parametrize(
    ("keys", "faults"),
    [
        ({}, ["name: expected a value, found none", "taxonomy: expected a value, found none"]),
        ({"train": {"steps": -1}}, ["train.steps: expected greater than 0, found -1"]),
        ({"train": {"stesp": 3}}, ["train.stesp: there is no such key; did you mean 'steps'?"]),
        ({"datasets": {"a": 3}}, ["datasets.a: expected keys and values, found 3"]),
        ({"datasets": {"a": {**DATASET, "train": None, "val": None}}}, ["every dataset has train: null and val: null"]),
    ],
    ids=["nothing", "number", "misspelt", "section", "rule"],
)
def test_an_experiment_made_in_python_is_told_in_our_words(keys, faults):
    given = {"name": "e", "taxonomy": "streets-108", "datasets": {"a": DATASET}} if keys else {}
    with pytest.raises(HeterosegError) as error:
        Experiment(**given | keys)
    for told in faults:
        assert any(fault.startswith(f"Experiment: {told}") for fault in error.value.faults), error.value.faults
    assert "pydantic" not in str(error.value)


@pytest.mark.parametrize("given", [None, {"name": "e"}, "e.yaml"], ids=["none", "dict", "path"])
def test_what_is_no_experiment_is_not_trained(tmp_path, given):
    with pytest.raises(
        HeterosegError, match=r"train: expected an Experiment, such as load_experiment\(FILE\)\[0\], found"
    ):
        heteroseg.train(given, folder=tmp_path, out=tmp_path / "run")
