"""What only a GPU shows: exact decisions, a resumed run, the same answers as on a CPU. Skipped where there is none."""

import numpy as np
import pytest
import torch
from benchmarks.gpu import drawn_tree

from heteroseg import decode_logits, load
from heteroseg.cli.main import main
from heteroseg.decisions.exact import decode, decode_torch
from heteroseg.decisions.plan import plan_decode
from heteroseg.decisions.reference import label_map, upsample
from heteroseg.evaluation.scores import evaluate
from heteroseg.experiment.config import load_experiment
from heteroseg.experiment.sources import open_sources
from heteroseg.labels.space import load_label_space, own_space
from heteroseg.scenes import draw_scene
from tests.decisions.test_exact import KINDS, logits_of
from tests.decisions.test_flat import plain
from tests.decisions.test_reference import SPACES
from tests.training.test_loop import killed_and_resumed, run, same, write_experiment

GPU = "cuda"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


def agrees(space, rule, kind, seed):
    """The decode on the GPU equals the plain reference on the same GPU, every time."""
    z = logits_of(kind, space.taxonomy.channels, 6, 7, seed).to(GPU)
    covers, size = (48, 56), (45, 50)
    expected = label_map(upsample(z, covers, (0, size[0]), size[1]), space, rule)[0]
    plan = plan_decode(space, rule)
    for _ in range(2):
        found, _ = decode_torch(z, covers, size, plan)
        assert torch.equal(found, expected), (kind, seed, int((found != expected).sum()))
    assert np.array_equal(decode(z, covers, size, plan)[0], expected.cpu().numpy())


@pytest.mark.parametrize("rule", ["path", "marginal"])
@pytest.mark.parametrize("name", SPACES)
def test_decode_in_every_shipped_label_space(name, rule):
    for seed, kind in enumerate(KINDS):
        agrees(load_label_space(name), rule, kind, seed)


@pytest.mark.parametrize("void", [False, True])
def test_decode_of_random_trees(void):
    rng = np.random.default_rng(0)
    for seed in range(40):
        space = own_space(drawn_tree(rng, void))
        for rule in ("path", "marginal"):
            agrees(space, rule, KINDS[seed % len(KINDS)], seed)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_of_any_network(kind):
    z = logits_of(kind, 150, 12, 14, 1).to(GPU)
    for kept, least in ((None, 0.0), ([3, 5, 149], 0.0), (None, 0.5), ([3, 5, 149], 0.01)):
        found = decode_logits(z, (91, 100), classes=kept, min_probability=least)
        assert found.device == z.device
        assert torch.equal(found.cpu(), plain(z.cpu(), (91, 100), kept, least))


@pytest.mark.parametrize("rule", ["path", "marginal"])
def test_decisions_are_those_of_a_cpu_but_for_rounding(rule):
    for name in ("cityscapes", "camvid11", "gtsdb"):
        space = load_label_space(name)
        z = logits_of("smooth", space.taxonomy.channels, 64, 128, 0)
        plan = plan_decode(space, rule)
        cpu, gpu = (decode(logits, (512, 1024), (512, 1024), plan)[0] for logits in (z, z.to(GPU)))
        assert (cpu != gpu).mean() < 1e-4


@pytest.mark.parametrize(("ema", "precision"), [(0.9, 32), (0.0, "bf16"), (0.0, 16)])
def test_killed_and_resumed_ends_in_the_same_weights(tmp_path, tiny_data, monkeypatch, ema, precision):
    how = {"train__ema": ema, "train__precision": precision, "train__accelerator": GPU}
    whole = run(tmp_path, tiny_data, name="whole", **how)
    assert same(whole, run(tmp_path, tiny_data, name="again", **how))
    killed_and_resumed(whole, tmp_path, tiny_data, monkeypatch, **how)


def test_workers_and_pinned_memory(tmp_path, tiny_data):
    how = {"train__accelerator": GPU}
    assert same(*(run(tmp_path, tiny_data, name=str(n), train__workers=n, **how) for n in (0, 2)))


def test_answers_and_scores_are_those_of_a_cpu(tmp_path, tiny_data, tiny_model_folder):
    cpu, gpu = load(tiny_model_folder), load(tiny_model_folder, GPU)
    image = draw_scene(np.random.default_rng(1), (96, 160)).image
    answers = [m.predict(image) for m in (cpu, gpu)]
    for space in ("cityscapes", "gtsdb"):
        assert np.mean(answers[0].labels(space) != answers[1].labels(space)) < 0.005
    assert np.mean(answers[0].nodes(0.5) != answers[1].nodes(0.5)) < 0.005
    sources = open_sources(*load_experiment(write_experiment(tmp_path, tiny_data)), splits=("val",))
    first, second = (evaluate(m, sources)["datasets"] for m in (cpu, gpu))
    for name in first:
        assert abs(first[name]["acc"] - second[name]["acc"]) < 0.005


COMMANDS = ("predict {M} {I} --out {O} --back-off 0.5", "calibrate {M} --data {E} --out {O}",
            "evaluate {M} --data {E} --back-off 0.5")  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_take_the_gpu(tmp_path, tiny_data, tiny_model_folder, command):
    places = {"M": tiny_model_folder, "I": tiny_data / "gtsdb", "O": tmp_path / "out"}
    places["E"] = write_experiment(tmp_path, tiny_data)
    assert main([*command.format(**places).split(), "--device", GPU]) == 0


def test_no_memory_is_told_in_a_sentence(tmp_path, tiny_data, capsys):
    experiment = write_experiment(tmp_path, tiny_data, train__accelerator=GPU, train__crop=[1024, 1024])
    torch.cuda.set_per_process_memory_fraction(0.005)
    try:
        code = main(["train", str(experiment), "--out", str(tmp_path / "run")])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    told = capsys.readouterr().err
    assert code == 2
    assert "Traceback" not in told
    assert "memory" in told.splitlines()[-1]
