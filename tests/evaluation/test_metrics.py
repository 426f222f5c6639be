"""Scores against slow loops and against cityscapesScripts on the same files."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroseg.evaluation.metrics import confusion, count_pairs, groups_at_depth, merge, scores
from heteroseg.labels.space import load_label_space


def slow_counts(truth, predicted, labels):
    counts = np.zeros((labels, labels + 1), np.int64)
    for t, p in zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True):
        if t >= 0:
            counts[t, p if p >= 0 else labels] += 1
    return counts


def slow_iou(truth, predicted, label, evaluated):
    """From the pixels: those whose truth is not evaluated do not exist."""
    pairs = [(t, p) for t, p in zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True) if t in evaluated]
    hit = sum(t == p == label for t, p in pairs)
    either = sum(label in (t, p) for t, p in pairs)
    there = sum(t == label for t, _ in pairs)
    return (hit / either, hit / there) if there else (None, None)


@given(st.integers(0, 2**16), st.integers(1, 6))
def test_scores_equal_a_slow_loop(seed, labels):
    rng = np.random.default_rng(seed)
    truth = rng.integers(-1, rng.integers(1, labels + 1), (7, 9)).astype(np.int16)  # some classes are absent
    predicted = rng.integers(-1, labels, (7, 9))
    counts = confusion(truth, predicted, labels)
    assert counts.dtype == np.int64
    assert np.array_equal(counts, slow_counts(truth, predicted, labels))
    evaluated = rng.random(labels) < 0.8
    result = scores(counts, evaluated)
    expected = [slow_iou(truth, predicted, i, set(np.flatnonzero(evaluated).tolist())) for i in range(labels)]
    for i, (iou, acc) in enumerate(expected if evaluated.any() else []):
        if iou is None or not evaluated[i]:
            assert np.isnan(result.iou[i])
            assert np.isnan(result.acc[i])
        else:
            assert (result.iou[i], result.acc[i]) == (pytest.approx(iou), pytest.approx(acc))
    present = [e for i, e in enumerate(expected) if e[0] is not None and evaluated[i]]
    if present:
        assert result.miou == pytest.approx(np.mean([e[0] for e in present]))
        assert result.macc == pytest.approx(np.mean([e[1] for e in present]))
        known = np.isin(truth, np.flatnonzero(evaluated))
        assert result.pixel_acc == pytest.approx((truth == predicted)[known].mean())
        assert result.pixels.sum() == known.sum()
    else:
        assert (result.miou, result.macc, result.pixel_acc) == (None, None, None)


def test_images_are_summed_and_not_averaged():
    a = confusion(np.zeros((1, 10), int), np.zeros((1, 10), int), 2)
    b = confusion(np.array([[0, 1]]), np.array([[1, 1]]), 2)
    assert scores(a + b).iou.tolist() == [10 / 11, 1 / 2]


def test_a_prediction_outside_the_space_is_a_miss():
    truth, predicted = np.array([0, 0, 0, 1]), np.array([0, -1, -1, 1])
    result = scores(confusion(truth, predicted, 2))
    assert result.iou.tolist() == [1 / 3, 1.0]
    assert result.acc.tolist() == [1 / 3, 1.0]
    assert result.pixel_acc == 0.5


def test_absent_classes_have_no_score():
    result = scores(confusion(np.array([0, 0, -1]), np.array([0, 2, 1]), 3))
    assert np.isnan(result.iou[1:]).all()
    assert np.isnan(result.acc[1:]).all()
    assert (result.miou, result.macc) == (0.5, 0.5)
    empty = scores(confusion(np.array([-1]), np.array([0]), 3))
    assert empty.miou is None
    assert empty.pixel_acc is None


def test_large_counts():
    counts = np.array([[2**40, 2**33, 0], [0, 2**45, 2**32]], np.int64)
    result = scores(counts)
    assert result.pixels.tolist() == [2**40 + 2**33, 2**45 + 2**32]
    assert result.iou[0] == 2**40 / (2**40 + 2**33)
    assert result.acc[1] == 2**45 / (2**45 + 2**32)
    assert merge(counts, np.array([0, 0]), 1).tolist() == [[2**40 + 2**33 + 2**45, 2**32]]


# ---- cityscapesScripts


@pytest.mark.parametrize("seed", range(3))
def test_equal_to_cityscapes_scripts(tmp_path, seed):
    """On the same files: all 34 ids as truth, all 34 as predictions, so ignored ids are met on both sides."""
    evaluation = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    space = load_label_space("cityscapes")
    labels, rng = len(space.labels), np.random.default_rng(seed)
    counts, files = np.zeros((labels, labels + 1), np.int64), {"truth": [], "predicted": []}
    for image in range(3):
        truth = rng.integers(0, 34, (41, 53)).astype(np.uint8)
        noise = rng.integers(0, 34, truth.shape).astype(np.uint8)
        predicted = np.where(rng.random(truth.shape) < 0.6, truth, noise)
        if seed == 2:  # a class that is neither there nor predicted
            truth[truth == 16] = predicted[predicted == 16] = 0
            truth[truth == 28] = predicted[predicted == 28] = 26
        for kind, ids in (("truth", truth), ("predicted", predicted)):
            files[kind].append(str(tmp_path / f"town_{image:06d}_000000_{kind}_labelIds.png"))
            cv2.imwrite(files[kind][-1], ids)
        position = np.full(256, -1)
        position[space.ids[~space.ignored]] = np.flatnonzero(~space.ignored)
        counts += confusion(position[truth], position[predicted], labels)
    args = evaluation.CArgs()
    vars(args).update(vars(evaluation.args))
    args.quiet, args.JSONOutput, args.evalInstLevelScore = True, False, False
    official = evaluation.evaluateImgLists(files["predicted"], files["truth"], args)
    found = scores(counts, space.evaluated)
    names = [label.name for label in space.labels]
    compared = 0
    for name, iou in official["classScores"].items():
        if name not in names:
            continue  # license plate, id -1
        i = names.index(name)
        assert np.isnan(found.iou[i]) == np.isnan(iou), name
        assert found.iou[i] == pytest.approx(iou, rel=1e-12, nan_ok=True)
        compared += not np.isnan(iou)
    assert compared == 19 - (seed == 2)
    assert found.miou == pytest.approx(official["averageScoreClasses"], rel=1e-12)


def test_a_class_that_is_only_predicted_is_left_out():
    """Here we differ from cityscapesScripts, on purpose: it gives 0 to a class without true pixels once predicted."""
    space = load_label_space("cityscapes")
    names = [label.name for label in space.labels]
    road, bus = names.index("road"), names.index("bus")
    result = scores(confusion(np.array([road] * 4), np.array([road] * 3 + [bus]), len(names)), space.evaluated)
    assert np.isnan(result.iou[bus])
    assert result.miou == result.iou[road] == 0.75


# ---- levels of the tree


@pytest.mark.parametrize("name", ["camvid32", "cityscapes-extended", "camvid11"])
def test_merged_counts_are_counts_of_merged_labels(name):
    space, rng = load_label_space(name), np.random.default_rng(0)
    n = len(space.labels)
    truth, predicted = rng.integers(-1, n, (60, 70)), rng.integers(-1, n, (60, 70))
    for depth in range(4):
        groups, names = groups_at_depth(space, depth)
        assert len(groups) == n
        assert sorted(set(groups.tolist())) == list(range(len(names)))
        merged = merge(confusion(truth, predicted, n), groups, len(names))
        coarse = [np.where(x < 0, -1, groups[x]) for x in (truth, predicted)]
        assert np.array_equal(merged, slow_counts(*coarse, len(names)))


def test_groups_are_ancestors():
    space = load_label_space("cityscapes-extended")
    tree = space.taxonomy
    groups, names = groups_at_depth(space, 1)
    for label, group in zip(space.labels, groups, strict=True):
        tops = {tree.names[tree.path(tree.leaves[leaf])[1]] for leaf in label.leaves}
        assert names[group] == (tops.pop() if len(tops) == 1 else f"{label.name} (label)")
    signs = {names[g] for label, g in zip(space.labels, groups, strict=True) if label.id in {20, *range(2000, 2043)}}
    assert signs == {"traffic sign"}
    groups, names = groups_at_depth(space, 2)
    by_name = {label.name: names[g] for label, g in zip(space.labels, groups, strict=True)}
    assert by_name["road"] == "road (label)", "it lies higher than the cut"
    assert by_name["parking"] == "parking"
    assert by_name["p_limit_30"] == by_name["traffic sign"] == "traffic sign (front)"


def test_pairs_are_counted():
    rng = np.random.default_rng(3)
    first, second = rng.integers(0, 3, 200).astype(np.int16), rng.integers(0, 5, 200)
    counts = count_pairs(first, second, (3, 5))
    assert counts.dtype == np.int64
    assert counts.tolist() == [[sum((first == i) & (second == j)) for j in range(5)] for i in range(3)]
    assert count_pairs(first[:0], second[:0], (2, 4)).tolist() == [[0] * 4] * 2
