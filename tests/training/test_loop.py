"""The loop: exact repeats and resumes, several processes, averaging, schedules, and faults that name the file."""

import json
import os
import platform
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from lightning_fabric.plugins import MixedPrecision
from safetensors.torch import load_file
from torch import nn

from heteroseg.cli.main import main
from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import OptimiserConfig, load_experiment
from heteroseg.model.model import load
from heteroseg.scenes import generate
from heteroseg.supervision import loss
from heteroseg.supervision.few import few
from heteroseg.training import objective, processes
from heteroseg.training.loop import Run, train
from heteroseg.training.optimiser import build_optimiser, learning_rate, memory_layout, weight_average
from tests.networks.catalogue import WINDOWS
from tests.supervision.test_coverage import SPACE, TREE, write

TINY = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    generate(root, 6, 2, (96, 128))
    return root


SWIN = {
    "model__backbone": "hf:swin",
    "model__backbone_options": WINDOWS | {"drop_path_rate": 0.0},
}


def write_experiment(folder: Path, data: Path, **changes) -> Path:
    """An experiment over the three generated datasets with a network of a few thousand weights."""
    experiment = {
        "name": "tiny",
        "taxonomy": "streets-108",
        "data_root": str(data),
        "datasets": {
            "cityscapes": {"root": "cityscapes", "reader": "cityscapes", "label_space": "cityscapes"},
            "vistas": {"root": "vistas", "reader": "vistas", "label_space": "vistas"},
            "gtsdb": {"root": "gtsdb", "reader": "gtsdb", "label_space": "gtsdb", "flip": 0, "focus": 0.9},
        },
        "model": {"backbone": "hf:resnet", "backbone_options": TINY, "width": 16},
        "loss": {"gate": "open", "normalise": "classifier", "balance": 0.0},
        "optimiser": {"lr": 0.003, "warmup": 0, "weight_decay": 0.01, "clip": 0.0},
        "train": {
            "steps": 6,
            "batch": 4,
            "crop": [64, 64],
            "workers": 0,
            "devices": 1,
            "accelerator": "cpu",
            "log_every": 1,
            "save_every": 3,
        },
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            experiment[section][name] = value
        else:
            experiment[section] = value
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(experiment))
    return path


def run(folder: Path, data: Path, resume: bool = False, name: str = "run", **changes) -> dict[str, torch.Tensor]:
    train(*load_experiment(write_experiment(folder, data, **changes)), folder / name, resume)
    return load_file(folder / name / "last" / "model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def killed_and_resumed(whole: dict[str, torch.Tensor], folder: Path, data: Path, monkeypatch, **changes) -> None:
    """A run that is killed one step after its last save, and goes on, ends as the run `whole` beside it did."""
    step = Run.train_step

    def killed(self, batch):
        if self.step == 4:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(Run, "train_step", killed)
    with pytest.raises(KeyboardInterrupt):
        run(folder, data, name="broken", **changes)
    monkeypatch.setattr(Run, "train_step", step)
    assert same(whole, run(folder, data, resume=True, name="broken", **changes))
    logs = [(folder / name / "log.csv").read_text() for name in ("whole", "broken")]
    assert logs[0] == logs[1]


@pytest.fixture(scope="module")
def reference(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("reference")
    return folder, run(folder, data)


def test_same_seed_same_run_for_any_number_of_workers(tmp_path, data, reference):
    assert same(reference[1], run(tmp_path, data, train__workers=2))
    assert not same(reference[1], run(tmp_path, data, name="other", train__seed=1))


@pytest.mark.parametrize(
    ("ema", "precision", "branches"),
    [(0.0, 32, []), (0.9, 32, []), (0.0, 16, []), (0.9, 32, ["traffic sign (front)"])],
)
def test_killed_and_resumed_ends_in_the_same_weights(tmp_path, data, monkeypatch, ema, precision, branches):
    """In 16 bits also the factor on the loss goes on, which changes with time and where a gradient is too large."""
    scaler = partial(torch.amp.GradScaler, "cpu", init_scale=1.0, growth_interval=2)
    monkeypatch.setattr(processes, "MixedPrecision", lambda *how: MixedPrecision(*how, scaler=scaler()))
    how = {"train__ema": ema, "train__precision": precision, "model__branches": branches}
    whole = run(tmp_path, data, name="whole", **how)
    killed_and_resumed(whole, tmp_path, data, monkeypatch, **how)
    states = [torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("whole", "broken")]
    assert states[0]["precision"] == states[1]["precision"]
    assert states[0]["precision"].get("scale", 8) == 8


EARLY = {"train__evaluate_every": 2, "train__patience": 2, "train__best": "gtsdb/acc", "train__steps": 40}


@pytest.fixture
def scored(monkeypatch):
    """Evaluations whose score is low and the best but once, and then falls."""
    accs = {2: 0.5, 4: 0.4, 6: 0.6, 8: 0.6, 10: 0.3}

    def evaluate(self):
        entry = {"label_space": "gtsdb", "per_class": {}, "macc": 0.0, "images": 1}
        other = entry | {"miou": self.step / 100, "acc": self.step / 100}
        datasets = {"gtsdb": entry | {"miou": 0.0, "acc": accs[self.step]}, "vistas": other}
        monkeypatch.setattr("heteroseg.training.run.evaluate", lambda *_: {"datasets": datasets, "warnings": []})
        plain(self)

    plain = Run.evaluate
    monkeypatch.setattr(Run, "evaluate", evaluate)


def test_training_ends_early_and_keeps_the_best_of_the_chosen_score(tmp_path, data, scored, monkeypatch, capfd):
    whole = run(tmp_path, data, name="whole", **EARLY)
    told = capfd.readouterr().err
    assert "40.00 % at step 4; best/ is of step 2 (gtsdb/acc 50.00 %)\n" in told
    assert "30.00 % at step 10; best/ is of step 6 (gtsdb/acc 60.00 %); training ends, train.patience is 2" in told
    state = torch.load(tmp_path / "whole" / "state.pt", weights_only=True)
    assert (state["step"], state["best_step"], state["best"]) == (10, 6, 0.6)
    assert "10,gtsdb/acc,0.3" in (tmp_path / "whole" / "log.csv").read_text()
    killed_and_resumed(whole, tmp_path, data, monkeypatch, **EARLY)
    again = run(tmp_path, data, resume=True, name="whole", **EARLY)  # what has ended takes no step more
    assert same(whole, again)
    best = [load_file(tmp_path / name / "best" / "model.safetensors") for name in ("whole", "broken")]
    assert same(*best)
    assert not same(best[0], whole)
    assert "best/ is of step 6" in json.loads((tmp_path / "whole" / "facts.json").read_text())["last evaluation"]


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        (
            "best",
            "loss",
            "train.best: expected miou, macc or acc, or one of a single dataset as NAME/miou, found 'loss'",
        ),
        ("best", "/miou", "train.best: expected miou, macc or acc"),
        ("best", "gtsbd/miou", "expected a dataset that has val images (cityscapes, gtsdb, vistas), found 'gtsbd'"),
        ("patience", 2, "train.patience has no effect, with train.evaluate_every 0 only the end is scored"),
    ],
)
def test_a_score_that_there_is_not_is_told(tmp_path, data, key, value, told):
    with pytest.raises(HeterosegError) as error:
        run(tmp_path, data, **{f"train__{key}": value})
    assert told in str(error.value)


def test_a_run_holds_what_is_promised(reference):
    out = reference[0] / "run"
    for model in ("best", "last"):
        for name in ("model.safetensors", "config.json", "taxonomy.yaml", "label_spaces/gtsdb.yaml"):
            assert (out / model / name).is_file()
    rows = (out / "log.csv").read_text().splitlines()
    assert rows[0] == "step,name,value"
    assert {r.split(",")[1] for r in rows[1:]} >= {"lr", "loss", "root/mask", "traffic sign (front)/boxes"}
    scores = json.loads((out / "evaluation.json").read_text())["datasets"]
    assert set(scores) == {"cityscapes", "vistas", "gtsdb"}
    assert not list(out.glob(".part-*"))
    assert load(out).name == "tiny"


def test_no_run_is_overwritten_or_resumed_as_another(reference, data):
    folder, _ = reference
    with pytest.raises(
        HeterosegError, match="expected a new or empty folder, found something in it; continue it with --resume"
    ):
        run(folder, data)
    with pytest.raises(HeterosegError, match=r"another experiment \(optimiser differ: optimiser\.lr\)"):
        run(folder, data, resume=True, optimiser__lr=0.1)
    with pytest.raises(HeterosegError, match="nothing to resume"):
        run(folder, data, resume=True, name="absent")


def test_steps_may_be_raised_and_what_decides_no_weight_may_change(tmp_path, data, capsys):
    """By halves the rate does not know of the end, so the run ends as one that had all of its steps from the start."""
    how = {"optimiser__schedule": "piecewise", "optimiser__halve_at": [4]}
    whole = run(tmp_path, data, name="whole", train__steps=9, **how)
    run(tmp_path, data, **how)
    ended = tmp_path / "run" / "evaluation.json"
    assert ended.is_file()
    changes = {"train__workers": 1, "train__log_every": 2, "train__save_every": 5, "train__logger": "csv"}
    assert same(whole, run(tmp_path, data, resume=True, train__steps=9, **how, **changes))
    assert "6 steps became 9, so the learning rate is 0.50 of its highest now" in capsys.readouterr().err
    scores = [json.loads((tmp_path / name / "evaluation.json").read_text())["datasets"] for name in ("whole", "run")]
    assert scores[0] == scores[1]
    with pytest.raises(HeterosegError, match=r"expected train\.steps of 9 or more, with which this run began, found 6"):
        run(tmp_path, data, resume=True, **how)


def test_raised_steps_go_on_with_the_rate_of_the_longer_run(tmp_path, data, monkeypatch):
    run(tmp_path, data)
    step = Run.train_step

    def killed(self, batch):
        assert not (tmp_path / "run" / "evaluation.json").exists(), "that of the shorter run is none of this one"
        if self.step == 7:
            raise KeyboardInterrupt
        return step(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(Run, "train_step", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, data, resume=True, train__steps=12)
    run(tmp_path, data, resume=True, train__steps=12)
    rows = [line.split(",") for line in (tmp_path / "run" / "log.csv").read_text().splitlines()]
    rates = [float(value) for _, name, value in rows if name == "lr"]
    due = [learning_rate(OptimiserConfig(warmup=0), step, 6 if step < 6 else 12) * 0.003 for step in range(12)]
    assert rates == pytest.approx(due, rel=1e-4)


def test_a_run_is_not_resumed_with_other_labels(tmp_path, capsys):
    path = write(tmp_path, {"train": ("a",), "val": ("b",)})
    command = ["train", str(path), "--out", str(tmp_path / "run")]
    assert main(command) == 0
    (tmp_path / "space.yaml").write_text(
        "description: told anew\n" + SPACE.replace("nodes: sky}", "nodes: sky, color: [1, 2, 3]}")
    )
    assert main([*command, "--resume"]) == 0  # means the same
    for file, text, told in (
        (
            "space.yaml",
            SPACE.replace("nodes: car", "nodes: sky2").replace("nodes: sky}", "nodes: car}").replace("sky2", "sky"),
            "label space 's'",
        ),
        ("tree.yaml", TREE.replace("[sky, ground,", "[ground, sky,"), "taxonomy 't'"),
    ):
        (tmp_path / file).write_text(text)
        capsys.readouterr()
        assert main([*command, "--resume"]) == 2
        assert f"run: this run began with another content of {told}; restore it" in capsys.readouterr().err


def test_it_learns(tmp_path, data):
    run(tmp_path, data, train__steps=60, train__crop=[64, 96], optimiser__lr=0.01, train__color=0.0)
    rows = [r.split(",") for r in (tmp_path / "run" / "log.csv").read_text().splitlines()[1:]]
    losses = [float(value) for _, name, value in rows if name == "root/mask"]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:3])


@pytest.mark.parametrize("network", [{}, SWIN], ids=["resnet", "swin"])
def test_two_processes_equal_one(tmp_path, data, network):
    """Swin has norms that no map passes through: without a gradient, the second process waited for them in vain."""
    two_and_one(tmp_path, data, **network)


def two_and_one(tmp_path: Path, data: Path, **more) -> None:
    """Without batch statistics and with every pixel looked at, splitting a batch changes nothing but rounding."""
    run(tmp_path, data, name="begin", train__steps=1, **more)
    changes = more | {
        "train__begin": str(tmp_path / "begin" / "last"),
        "train__freeze_norm": True,
        "loss__cell": 1,
        "optimiser__name": "sgd",
        "optimiser__lr": 0.05,
        "train__steps": 3,
    }
    one = run(tmp_path, data, name="one", **changes)
    path = write_experiment(
        tmp_path, data, train__devices=2, **{k: v for k, v in changes.items() if k != "train__devices"}
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", "heteroseg", "train", str(path), "--out", str(tmp_path / "two")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    two = load_file(tmp_path / "two" / "last" / "model.safetensors")
    start = run(tmp_path, data, name="start", **(changes | {"optimiser__lr": 1e-12}))
    moved = max(float((one[k] - start[k]).abs().max()) for k in one if one[k].is_floating_point())
    apart = max(float((one[k] - two[k]).abs().max()) for k in one if one[k].is_floating_point())
    assert moved > 1e-2
    assert apart < 1e-4 * moved


def test_a_frozen_encoder_stays_as_it_is(tmp_path, data):
    """Its norms, too; all that follows learns."""
    start = run(tmp_path, data, name="start", model__freeze=True, optimiser__lr=1e-12, train__steps=1)
    end = run(tmp_path, data, name="end", model__freeze=True, optimiser__weight_decay=0.1)
    begun = run(tmp_path, data, name="free", train__steps=1)
    frozen = {key for key in start if key.startswith("body.0.body.")}
    assert same({key: start[key] for key in frozen}, {key: end[key] for key in frozen})
    assert all((start[key] != end[key]).any() for key in start.keys() - frozen if key.endswith((".weight", "_mean")))
    assert any((start[key] != begun[key]).any() for key in frozen if key.endswith("running_mean"))


def test_norms_of_the_encoder_keep_their_statistics(tmp_path, data):
    """Those of the decoder are new, and would stay as they were drawn; of a trained network all stay."""
    start = run(tmp_path, data, name="start", train__freeze_norm=True, optimiser__lr=1e-12, train__steps=1)
    end = run(tmp_path, data, name="end", train__freeze_norm=True)
    means = {key for key in start if key.endswith("running_mean")}
    encoder = {key for key in means if key.startswith("body.0.body.")}
    assert {key for key in means if (start[key] != end[key]).any()} == means - encoder > set()
    weights = [key for key in start if key.startswith("body.0.body.") and key.endswith(".weight")]
    assert any((start[key] != end[key]).any() for key in weights)
    begin = {"train__begin": str(tmp_path / "end" / "last"), "train__freeze_norm": True, "name": "all"}
    later = run(tmp_path, data, **begin)
    assert same({key: end[key] for key in means}, {key: later[key] for key in means})


@pytest.mark.parametrize(("asked", "used"), [("bf16", torch.bfloat16), (16, torch.float16), ("16", torch.float16)])
def test_mixed_precision_is_what_was_asked_for(tmp_path, data, monkeypatch, asked, used):
    """On a CPU too, where Fabric takes bf16 for 16; and YAML reads 16 as a number."""
    seen, forward = set(), nn.Conv2d.forward

    def noted(self, x):
        out = forward(self, x)
        if self.training:
            seen.add(out.dtype)
        return out

    monkeypatch.setattr(nn.Conv2d, "forward", noted)
    weights = run(tmp_path, data, train__precision=asked, train__steps=2)
    assert seen == {used}
    assert all(torch.isfinite(v).all() for v in weights.values())
    assert {v.dtype for v in weights.values() if v.is_floating_point()} == {torch.float32}


def test_a_nan_loss_names_the_images(tmp_path, data):
    with pytest.raises(HeterosegError, match=r"loss is (nan|inf), expected a finite number.*leftImg8bit\.png"):
        run(tmp_path, data, optimiser__lr=1e6, optimiser__name="sgd", train__steps=50)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("fault", ["image", "id"])
def test_faulty_files_stop_the_run_by_name(tmp_path, data, workers, fault):
    broken = tmp_path / "data"
    shutil.copytree(data, broken)
    if fault == "image":
        file = min(broken.glob("vistas/train*/images/*"))
        file.write_bytes(file.read_bytes()[:100])
    else:
        file = min(broken.glob("cityscapes/gtFine/train/*/*labelIds.png"))
        mask = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(file), np.full_like(mask, 77))
    with pytest.raises(HeterosegError) as caught:
        run(tmp_path, broken, train__workers=workers, train__steps=20)
    assert file.name in str(caught.value)
    assert "Traceback" not in str(caught.value)
    if fault == "id":
        assert "77" in str(caught.value)


def test_a_batch_of_one_pixel_is_told(tmp_path, data):
    alone = ["train.batch=1", "train.crop=[32, 32]", "datasets.vistas.train=null", "datasets.gtsdb.train=null"]
    experiment = load_experiment(write_experiment(tmp_path, data), alone)
    with pytest.raises(HeterosegError, match=r"train\.batch: .* found 1 of 32x32 .* raise train\.batch or train\.crop"):
        train(*experiment, tmp_path / "run")


def test_a_crop_that_does_not_fit_is_told(tmp_path, data):
    with pytest.raises(HeterosegError, match="multiples of 32, the cells of this network"):
        run(tmp_path, data, train__crop=[60, 64])


@pytest.mark.parametrize("accelerator", ["nonsense", "tpu"])
def test_a_machine_that_is_not_there_is_told(tmp_path, data, accelerator):
    with pytest.raises(HeterosegError, match=r"train\.accelerator"):
        run(tmp_path, data, train__accelerator=accelerator)
    assert not (tmp_path / "run").exists()


def test_unknown_weights_are_told(tmp_path, data):
    with pytest.raises(HeterosegError, match="did you mean 'driveable'"):
        run(tmp_path, data, loss__weights={"drivable": 2.0})
    with pytest.raises(HeterosegError, match="did you mean 'vistas/Car'"):
        run(tmp_path, data, name="b", loss__class_weights={"vistas/Caar": 2.0})


def test_learning_rates():
    poly = OptimiserConfig(warmup=10, power=1.0)
    assert learning_rate(poly, 0, 100) == pytest.approx(0.1)
    assert learning_rate(poly, 50, 100) == pytest.approx(0.5)
    paper = OptimiserConfig(schedule="piecewise", warmup=0, halve_at=[72000, 135000])  # IV 2018
    assert [learning_rate(paper, s, 153000) for s in (0, 71999, 72000, 135000)] == [1.0, 1.0, 0.5, 0.25]


def test_norms_and_biases_are_not_decayed():
    encoder = nn.ModuleDict({"body": nn.Conv2d(1, 2, 1)})  # in a Backbone
    network = nn.ModuleDict({"body": nn.ModuleList([encoder, nn.BatchNorm2d(2)])})
    groups = build_optimiser(network, OptimiserConfig(lr=1.0, backbone_lr=0.1, weight_decay=0.5)).param_groups
    found = {(g["lr"], g["weight_decay"], len(g["params"])) for g in groups}
    assert found == {(0.1, 0.5, 1), (0.1, 0.0, 1), (1.0, 0.0, 2)}


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_fused_steps_are_the_same(name):
    """Also from a state whose numbers lie in another order, as a run on another device may have left it."""
    ends = []
    for fused in (False, True):
        torch.manual_seed(0)
        layer: nn.Module = nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser = build_optimiser(layer, OptimiserConfig(name=name, lr=0.01), fused)
        for step in range(4):
            optimiser.zero_grad()
            layer(torch.randn(2, 3, 8, 8)).square().sum().backward()
            optimiser.step()
            if step == 1:
                state = optimiser.state_dict()
                for kept in state["state"].values():
                    kept |= {key: value.contiguous() for key, value in kept.items()}
                optimiser.load_state_dict(state)
        ends.append([weight.detach() for weight in layer.parameters()])
    torch.testing.assert_close(*ends)


def test_logits_that_no_label_asks_for_are_not_made(tmp_path, data, monkeypatch):
    asked = []
    how = {"optimiser__name": "sgd", "optimiser__lr": 0.1}  # which does not blow up what differs by rounding
    with monkeypatch.context() as patched:
        patched.setattr(objective, "fused_head", lambda body: None)
        whole = run(tmp_path, data, name="whole", **how)
    monkeypatch.setattr(loss, "few", lambda *given: asked.append(given[2].float().mean()) or few(*given))
    parts = run(tmp_path, data, name="parts", **how)
    assert 0 < sum(asked) / len(asked) < 0.9
    assert not same(whole, run(tmp_path, data, name="less", train__steps=3, **how))
    for key, value in whole.items():
        torch.testing.assert_close(parts[key], value, rtol=1e-3, atol=1e-4)


def test_layouts():
    """ResNets' strided shortcuts are not safe in channels last on CPUs."""
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    strided, plain = nn.Sequential(nn.Conv2d(4, 4, 1, 2)), nn.Sequential(nn.Conv2d(4, 4, 3, 2), nn.Conv2d(4, 4, 1))
    assert memory_layout(strided, cpu) == torch.contiguous_format
    assert memory_layout(strided, gpu) == memory_layout(plain, cpu) == torch.channels_last


def test_averaging():
    a, b = nn.Linear(1, 1), nn.Linear(1, 1)
    nn.init.zeros_(a.weight)
    nn.init.ones_(b.weight)
    young, old = weight_average(a, 0.99), weight_average(a, 0.99)
    old.n_averaged.fill_(1000)
    for average in (young, old):
        average.update_parameters(b)
    assert young.module.weight.item() == pytest.approx(9 / 11), "after one step (1 + 1) / (10 + 1) is kept"
    assert old.module.weight.item() == pytest.approx(0.01)
    young.update_parameters(b)
    assert young.module.weight.item() == pytest.approx(1 - 2 / 11 * 3 / 12)


def test_a_state_with_the_average_by_plain_names_is_resumed(tmp_path, data):
    """As runs wrote it that kept their own average; AveragedModel would add `module.` and a counter."""
    run(tmp_path, data, train__ema=0.9, train__steps=3)
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert state["average"].keys() == state["network"].keys()
    assert same(state["average"], load_file(tmp_path / "run" / "last" / "model.safetensors"))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the options")
@pytest.mark.parametrize("kept", [False, True])
def test_freed_memory_is_kept(kept):
    code = f"""
import numpy as np
from heteroseg.training.optimiser import keep_freed_memory
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
if {kept}:
    assert keep_freed_memory()
block = np.ones(2**26, np.uint8)
full = resident()
del block
print(full - resident() > 2**25)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == str(not kept), done.stderr
