"""The other ways are settings: every one gives files that check, and labels that mean what they must."""

import numpy as np
import pytest
import torch
import yaml

from heteroseg.comparison.joining import WAYS, Base, common_classes
from heteroseg.comparison.runner import require_same, write_part
from heteroseg.decisions.reference import label_map
from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import Experiment
from heteroseg.labels.space import build_label_space, load_label_space
from heteroseg.labels.taxonomy import build_taxonomy, load_taxonomy
from heteroseg.supervision.label_terms import build_terms

SETS = {
    "streets-real": {"camvid": "camvid32", "camvid11": "camvid11", "idd_lite": "idd-lite", "gtsdb": "gtsdb-real"},
    "streets-108": {"cityscapes": "cityscapes", "vistas": "vistas", "gtsdb": "gtsdb"},
}


def base_of(taxonomy: str) -> Base:
    tree = load_taxonomy(taxonomy)
    datasets: dict = {d: {"root": d, "reader": "folder", "label_space": s} for d, s in SETS[taxonomy].items()}
    datasets["gtsdb"] |= {"paste": 2, "paste_of": ["traffic sign", "p_limit_20"]}
    weights = {"gtsdb/p_limit_20": 2.0}
    loss = {"weights": {"traffic sign": 0.3}, "box_weights": {"root": 0.1}, "class_weights": weights}
    train = {"batch": 7, "steps": 17, "freeze_norm": True}
    model = {"branches": ["traffic sign"], "branch_gradient": 0.5}
    experiment = Experiment(name="e", taxonomy=taxonomy, datasets=datasets, loss=loss, train=train, model=model)
    return Base(
        experiment, tree, {d: load_label_space(s, tree) for d, s in SETS[taxonomy].items()}, dict.fromkeys(datasets, 2)
    )


BASES = {name: base_of(name) for name in SETS}


def built(part):
    tree = build_taxonomy(part.tree, void=part.experiment.model.void)
    return tree, {d: build_label_space(f, tree) for d, f in part.spaces.items()}


@pytest.mark.parametrize("taxonomy", SETS)
@pytest.mark.parametrize("way", WAYS)
def test_every_way_checks_and_keeps_ids_and_order(way, taxonomy):
    base = BASES[taxonomy]
    parts = WAYS[way](base)
    scored = [d for p in parts for d, c in p.experiment.datasets.items() if c.val]
    assert sorted(scored) == sorted(base.spaces), "every dataset is scored once"
    for part in parts:
        tree, spaces = built(part)
        build_terms(list(spaces.values()))
        assert Experiment.model_validate(part.experiment.model_dump()) == part.experiment
        same_tree = way in ("hierarchical", "unseen")
        assert part.experiment.model.branches == (["traffic sign"] if same_tree else [])
        assert list(part.experiment.datasets) == list(spaces)
        for d, space in spaces.items():
            assert [(x.id, x.name) for x in space.labels] == [(x.id, x.name) for x in base.spaces[d].labels]
            assert part.experiment.datasets[d].label_space == f"label_spaces/{d}.yaml"
            pasted = [label.name for name in part.experiment.datasets[d].paste_of for label in space.named(name)]
            assert ("o_stop" in pasted) == (d == "gtsdb"), "nodes that another tree lacks are named by their labels"
        # what all ways share
        assert part.experiment.train.steps == base.experiment.train.steps
        assert part.experiment.model.backbone == base.experiment.model.backbone
        names = {f"{d}/{x.name}" for d, s in spaces.items() for x in s.labels}
        assert set(part.experiment.loss.class_weights) <= names
        assert set(part.experiment.loss.weights) - {"default"} <= set(tree.names)


@pytest.mark.parametrize("taxonomy", SETS)
@pytest.mark.parametrize("way", [w for w in WAYS if w != "drop"])
def test_every_evaluated_label_can_be_said(way, taxonomy):
    """A network that is sure of one of a label's classes names the label, in every way but `drop`."""
    for part in WAYS[way](BASES[taxonomy]):
        tree, spaces = built(part)
        for space in spaces.values():
            for i in np.flatnonzero(space.evaluated):
                leaf = next(x for x in sorted(space.labels[i].leaves) if space.by_leaf[x] == i)
                logits = torch.zeros(1, tree.channels, 1, 1)
                for node in tree.path(tree.leaves[leaf]):
                    if tree.channel_of[node] >= 0:
                        logits[0, tree.channel_of[node]] = 50.0
                for rule in ("marginal", "path"):
                    assert label_map(logits, space, rule).item() == i


def test_flat_keeps_the_meaning_of_labels():
    base = BASES["streets-real"]
    (part,) = WAYS["flat"](base)
    tree, spaces = built(part)
    assert len(tree.classifiers) == 1
    for d, space in spaces.items():
        for mine, label in zip(space.labels, base.spaces[d].labels, strict=True):
            names = {base.tree.names[base.tree.leaves[x]] for x in label.leaves}
            assert {tree.names[tree.leaves[x]] for x in mine.leaves} == names
            assert mine.shape == "rectangle"


def test_concat_shares_names_and_nothing_else():
    (part,) = WAYS["concat"](BASES["streets-real"])
    tree, spaces = built(part)
    names = {d: {tree.names[tree.leaves[x]] for label in s.labels for x in label.leaves} for d, s in spaces.items()}
    shared = [
        "Sky",
        "Building",
        "Road",
        "Tree",
        "SignSymbol",
        "Fence",
        "Car",
        "Pedestrian",
        "Bicyclist",
    ]  # not Sidewalk, which is Pavement
    assert names["camvid"] & names["camvid11"] == set(shared)
    assert names["idd_lite"] & names["camvid"] == {"Sky"}
    assert not names["gtsdb"] & names["camvid"]


def test_per_dataset_trains_no_choice_between_datasets():
    (part,) = WAYS["per_dataset"](BASES["streets-real"])
    tree, spaces = built(part)
    assert part.experiment.loss.weights["root"] == 0
    logits = torch.randn(1, tree.channels, 5, 6)
    for d, space in spaces.items():
        assert space.file.assume == [d]
        c = tree.classifiers[tree.classifier_of[tree.index(d)]]
        labels = [i for i, x in enumerate(space.labels) if x.leaves]
        wanted = np.array(labels)[logits[:, c.start : c.stop].argmax(1)]
        assert np.array_equal(label_map(logits, space), wanted), "whatever the root says"


def test_common_classes_are_shared_disjoint_and_finest():
    spaces = list(BASES["streets-real"].spaces.values())
    found = common_classes(spaces)
    wanted = ["Fence", "Pedestrian", "Sky", "Building", "Pavement", "Tree", "Car", "Road", "Bicyclist", "SignSymbol"]
    assert {n for n in found if "Pole" not in n} == set(wanted)
    assert sum("Pole" in n for n in found) == 1  # Column_Pole and Pole are the same
    taken = [leaf for leaves in found.values() for leaf in leaves]
    assert len(taken) == len(set(taken))
    for leaves in found.values():

        def parts(space, leaves=leaves):
            return frozenset().union(*(x.leaves for x in space.labels if x.leaves <= leaves))

        assert sum(parts(space) == leaves for space in spaces) >= 2


def test_drop_shows_a_class_as_one_label_and_ignores_the_rest():
    base = BASES["streets-real"]
    (part,) = WAYS["drop"](base)
    tree, spaces = built(part)
    camvid = spaces["camvid"]
    by_name = {x.name: x for x in camvid.labels}
    car = {tree.names[tree.leaves[x]] for x in by_name["SUVPickupTruck"].leaves}
    assert car == {"Car"}, "trained as the common class"
    assert by_name["Car"].evaluate
    assert not by_name["SUVPickupTruck"].evaluate, "and never said"
    assert not by_name["Tunnel"].leaves, "fits into no common class"
    idd = {x.name: x for x in spaces["idd_lite"].labels}
    assert idd["drivable"].leaves
    assert not idd["vehicle"].leaves, "covers more than the common class"
    for space in spaces.values():
        for leaf in range(len(tree.leaves)):
            assert sum(x.evaluate and leaf in x.leaves for x in space.labels) <= 1


def test_iv2018_is_the_papers_setting():
    base = BASES["streets-108"]
    (part,) = WAYS["iv2018"](base)
    e = part.experiment
    tree, spaces = built(part)
    assert tree.void
    assert tree.channels == 116
    assert (e.loss.gate, e.loss.normalise, e.loss.weights) == ("hard", "classifier", {"root": 1.0, "default": 0.1})
    assert (e.optimiser.name, e.optimiser.lr, e.optimiser.momentum, e.optimiser.halve_at) == ("sgd", 0.01, 0.9, [8, 15])
    assert e.evaluate.decision == "path"
    assert not e.train.freeze_norm  # its norms learn statistics
    assert spaces["gtsdb"].file.gate is None
    assert spaces["gtsdb"].file.assume == ["traffic sign (front)"]


def test_specialists_see_what_the_joint_network_sees():
    base = BASES["streets-real"]
    for part in WAYS["specialists"](base):
        (d,) = part.spaces
        assert part.experiment.train.batch == base.images_per_dataset[d]
        tree, _ = built(part)
        assert len(tree.leaves) == sum(bool(x.leaves) for x in base.spaces[d].labels)


def test_unseen_trains_on_all_others():
    base = BASES["streets-real"]
    for way, whole in (("unseen", "hierarchical"), ("unseen_flat", "flat")):
        (joint,) = WAYS[whole](base)
        for part in WAYS[way](base):
            (held,) = [d for d, c in part.experiment.datasets.items() if c.train is None]
            assert [d for d, c in part.experiment.datasets.items() if c.val] == [held]
            assert part.name == f"{way}-{held}"
            assert (part.tree, part.spaces) == (joint.tree, joint.spaces)


def test_a_comparison_of_another_yaml_writer_goes_on(tmp_path):
    """Files are compared by what they hold: those of PyYAML, of before, say the same."""
    (part,) = WAYS["hierarchical"](BASES["streets-real"])
    write_part(part, tmp_path)
    for path in tmp_path.rglob("*.yaml"):
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text())))
    require_same(part, tmp_path)
    (tmp_path / "taxonomy.yaml").write_text("name: other")
    with pytest.raises(HeterosegError, match="begun with other settings"):
        require_same(part, tmp_path)
