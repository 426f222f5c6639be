"""Lazy heads: logits that are worked out where a walk needs them decide as the reference does on all of them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks.naive import compare
from hypothesis import given
from hypothesis import strategies as st

import heteroseg
from heteroseg.cli.main import main
from heteroseg.decisions import exact, lazy_kernel
from heteroseg.decisions.exact import decode, dense
from heteroseg.decisions.lazy_head import LazyHead, LazyLogits, lazy_head, pack_head, unpack_head
from heteroseg.decisions.plan import plan_decode
from heteroseg.decisions.reference import decide
from heteroseg.errors import HeterosegError
from heteroseg.export.export import choose_head, export
from heteroseg.export.random_model import scenes
from heteroseg.labels.space import load_label_space, own_space
from heteroseg.labels.taxonomy import Taxonomy, TaxonomyFile, build_taxonomy, load_taxonomy
from heteroseg.model.model import Model
from heteroseg.networks.network import build_network
from tests.decisions.test_exact import KINDS, logits_of, reference, spaces, trees


def lazy_logits(kind: str, tree: Taxonomy, width: int, h: int, w: int, seed: int) -> LazyLogits:
    """Features of a kind (also infinite, NaN, tied) under small whole weights, so that logits tie often."""
    g = np.random.default_rng(seed)
    weight = g.integers(-2, 3, (tree.channels, width)).astype(np.float32)
    bias = g.integers(-1, 2, tree.channels).astype(np.float32)
    return LazyLogits(logits_of(kind, width, h, w, seed), lazy_head(weight, bias, cuts(tree)))


def cuts(tree: Taxonomy) -> list[int]:
    return [0, *(c.stop for c in tree.classifiers)]


@given(st.data())
def test_any_tree_any_size_any_features(data):
    tree = data.draw(trees())
    asked = data.draw(st.one_of(st.just(tree), st.just(own_space(tree)), spaces(tree)))
    plan = plan_decode(asked, data.draw(st.sampled_from(["path", "marginal"])))
    h, w = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    covers = (data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40)))
    size = (data.draw(st.integers(1, covers[0])), data.draw(st.integers(1, covers[1])))
    kind, width = data.draw(st.sampled_from(KINDS)), data.draw(st.integers(1, 9))
    lazy = lazy_logits(kind, tree, width, h, w, data.draw(st.integers(0, 999)))
    expected = reference(dense(lazy), covers, size, tree, plan.space, plan.rule)
    assert np.array_equal(decode(lazy, covers, size, plan)[0], expected)


def test_logits_are_sums_in_order():
    """Against plain float32 sums, first of the even features and then of the odd ones, for odd widths too."""
    tree = load_taxonomy("streets-108")
    for width in (1, 2, 3, 6, 64):
        g = np.random.default_rng(width)
        weight, bias = (g.standard_normal(s).astype(np.float32) for s in ((tree.channels, width), tree.channels))
        x = g.standard_normal((width, 3, 4)).astype(np.float32)
        found = dense(LazyLogits(torch.from_numpy(x)[None], lazy_head(weight, bias, cuts(tree))))[0].numpy()
        first, second = np.broadcast_to(bias[:, None, None], found.shape).copy(), np.zeros_like(found)
        for c in range(width):
            (second if c % 2 and c < width // 2 * 2 else first)[:] += weight[:, c, None, None] * x[c]
        assert np.array_equal(found, first + second)


def test_a_head_survives_its_metadata():
    g = np.random.default_rng(0)
    weight, bias = g.standard_normal((40, 6)).astype(np.float32), g.standard_normal(40).astype(np.float32)
    ends = [0, 3, 19, 20, 40]
    there, back = lazy_head(weight, bias, ends), unpack_head(json.loads(json.dumps(pack_head(weight, bias, ends))))
    for field in LazyHead._fields:
        assert np.array_equal(getattr(there, field), getattr(back, field))


def test_a_parent_that_wins_only_between_corners():
    """b wins at no corner, only in the middle; its children are then asked at corners that never chose b."""
    tree = build_taxonomy(TaxonomyFile(name="t", tree={"root": ["a", "b", "c"], "b": ["b1", "b2"]}))
    # features are the logits themselves: a wins left, c right, and b is second best everywhere
    rows = {"a": [8, 0], "b": [6, 6], "c": [0, 8], "b1": [1, 3], "b2": [3, 1]}
    order = [tree.names[child] for c in tree.classifiers for child in c.children]
    features = torch.tensor([rows[name] for name in order]).float().view(1, len(order), 1, 2)
    head = lazy_head(np.eye(len(order), dtype=np.float32), np.zeros(len(order), np.float32), cuts(tree))
    lazy = LazyLogits(features, head)
    assert torch.equal(dense(lazy), features)
    assert tree.index("b") not in decide(features, tree, torch.tensor([name != "root" for name in tree.names]))
    plan = plan_decode(tree)
    found, _ = decode(lazy, (8, 16), (8, 16), plan)
    assert {tree.names[n] for n in np.unique(found)} == {"a", "b1", "b2", "c"}
    assert np.array_equal(found, reference(features, (8, 16), (8, 16), tree, None, "path"))


def deep() -> Taxonomy:
    tree = {"root": [f"n{i}" for i in range(30)]}
    tree |= {n: [f"{n}_{k}" for k in range(30)] for n in tree["root"]}
    return build_taxonomy(TaxonomyFile(name="t", tree=tree))


@pytest.mark.parametrize("rule", ["path", "marginal"])
def test_nodes_that_cannot_win_are_not_worked_out(monkeypatch, rule):
    """Of 31 classifiers the root and two likely nodes are asked, and one that is likely in a corner."""
    tree = deep()
    lazy = lazy_logits("smooth", tree, 8, 12, 13, 1)
    weight, bias = 0.1 * np.random.default_rng(0).standard_normal((tree.channels, 8)), np.zeros(tree.channels)
    weight[:3, :3], bias[:3] = 9 * np.eye(3), 9
    features = lazy.features.clamp(-1, 1)
    features[:, 0], features[:, 1] = 0.7, 0.8 * features[:, 1].clamp(min=0.5)
    features[:, 2], features[:, 2, :3, :4] = -1, 1
    lazy = LazyLogits(features, lazy_head(weight.astype(np.float32), bias.astype(np.float32), cuts(tree)))
    wanted = reference(dense(lazy), (96, 104), (93, 104), tree, own_space(tree), rule)
    asked, made = [], lazy_kernel.corners
    monkeypatch.setattr(lazy_kernel, "corners", lambda *given: asked.append(made(*given)) or asked[-1])
    monkeypatch.setattr(exact, "dense", lambda *_: pytest.fail("all logits were worked out"))
    assert np.array_equal(decode(lazy, (96, 104), (93, 104), plan_decode(own_space(tree), rule))[0], wanted)
    known = np.concatenate([corners.where >= 0 for corners in asked])
    assert known[..., 0].all()
    assert known[..., 1:3].any((0, 1)).all()
    assert not known[..., 4:].any()
    assert 0 < known[..., 3].mean() < 0.2


@pytest.mark.parametrize("name", ["camvid32", "camvid11", "gtsdb-real", "leaves"])
def test_labels_of_many_nodes(name):
    space = own_space(load_taxonomy("streets-real")) if name == "leaves" else load_label_space(name)
    for seed, kind in enumerate(("unsure", "smooth", "certain", "ties", "constant")):
        lazy = lazy_logits(kind, space.taxonomy, 6, 5, 6, seed)
        expected = reference(dense(lazy), (45, 54), (41, 54), space.taxonomy, space, "marginal")
        assert np.array_equal(decode(lazy, (45, 54), (41, 54), plan_decode(space, "marginal"))[0], expected)


@pytest.mark.parametrize("rule", ["path", "marginal"])
def test_a_network_of_many_classes_works_out_what_is_needed(tiny_model_config, rule):
    torch.manual_seed(0)
    tree, image = deep(), scenes(1, (70, 100))[0]
    model = Model("t", build_network(tiny_model_config, tree).eval(), tree, {}, tiny_model_config, rule)
    found = model.predict(image)
    assert isinstance(found.output, LazyLogits)
    with torch.inference_mode():
        plain = model.network(torch.from_numpy(image.copy()).permute(2, 0, 1)[None])
    assert (found.logits - plain).abs().max() < 1e-4 * plain.abs().max()
    wanted = reference(found.logits, found.covers, found.size, tree, own_space(tree), rule)
    assert np.array_equal(found.label_indices("leaves"), wanted)
    assert np.array_equal(found.confident_label_indices("leaves")[0], wanted)


def test_confidence_and_threads():
    tree = load_taxonomy("streets-108")
    plan, lazy = plan_decode(own_space(tree)), lazy_logits("smooth", tree, 8, 20, 21, 0)
    full, before = dense(lazy), torch.get_num_threads()
    confident = [decode(logits, (80, 84), (80, 84), plan, True) for logits in (lazy, full)]
    for ours, theirs in zip(*confident, strict=True):
        assert np.array_equal(ours, theirs)
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            ours, theirs = (decode(logits, (80, 84), (77, 84), plan)[0] for logits in (lazy, full))
            assert np.array_equal(ours, theirs)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("kind", "ending"), [("openvino", "xml"), ("onnx", "onnx")])
def test_a_lazy_file_answers_as_pytorch(tiny_model, tmp_path, kind, ending):
    pytest.importorskip({"openvino": "openvino", "onnx": "onnxruntime"}[kind], reason=f"the extra {kind} is missing")
    image, path = scenes(1, (70, 100))[0], tmp_path / f"lazy.{ending}"
    export(tiny_model, path, kind, head="lazy")
    model = heteroseg.load(path)
    assert model.network.lazy
    theirs, ours = tiny_model.predict(image), model.predict(image)
    assert isinstance(ours.output, LazyLogits)
    assert ours.logits.shape == theirs.logits.shape == ours.output.shape
    assert (ours.logits - theirs.logits).abs().max() < 1e-3 * theirs.logits.std()
    for rule in ("path", "marginal"):
        theirs, ours = (replace(m, decision=rule).predict(image) for m in (tiny_model, model))
        for space in ("cityscapes", "gtsdb", "leaves"):
            assert (ours.labels(space) == theirs.labels(space)).mean() > 0.999
        assert np.abs(ours.confidence("leaves") - theirs.confidence("leaves")).max() < 0.01
    assert np.abs(ours.probs("traffic sign") - theirs.probs("traffic sign")).max() < 0.01


def test_lazy_is_chosen_where_it_pays(tiny_model, tiny_model_config):
    def chosen(tree: dict[str, list[str]], rule="path", head="auto", **options) -> str:
        taxonomy = build_taxonomy(TaxonomyFile(name="t", tree=tree))
        config = tiny_model_config.model_copy(update=options)
        return choose_head(Model("t", build_network(config, taxonomy), taxonomy, {}, config, rule), head)

    flat = {"root": [f"n{i}" for i in range(900)]}
    deep = {"root": [f"n{i}" for i in range(30)]} | {f"n{i}": [f"n{i}_{k}" for k in range(30)] for i in range(30)}
    assert choose_head(tiny_model) == "dense"
    assert chosen(flat) == "dense"
    assert chosen(flat, head="lazy") == "lazy"
    assert chosen(deep) == "lazy"
    assert chosen(deep, "marginal") == "lazy"
    assert chosen(deep, upsample=True) == "dense"
    with pytest.raises(HeterosegError, match="head lazy needs"):
        chosen(deep, head="lazy", adapters=True)


def test_commands_tell_the_head(tiny_model_folder, tmp_path, capsys):
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    out = tmp_path / "m.xml"
    args = ["export", str(tiny_model_folder), "--format", "openvino", "--out", str(out), "--head", "lazy"]
    assert main(args) == 0
    assert "lazy head" in capsys.readouterr().out
    bench = ["bench", str(out), "--size", "64x90", "--decision", "path", "--repeats", "3", "--threads", "1"]
    assert main(bench) == 0
    assert "lazy head" in capsys.readouterr().out
    assert compare(heteroseg.load(out), scenes(1, (64, 90))[0], "leaves", repeats=1)["naive_agreement"] > 0.99
