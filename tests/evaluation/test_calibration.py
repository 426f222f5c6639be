"""Calibration and back-off against slow references written from the definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroseg.errors import HeterosegError
from heteroseg.evaluation.calibration import (
    ancestor_error,
    calibration_error,
    detection,
    fit_temperature,
    nll,
    risk_coverage,
)
from tests.small_tree import TREE


@pytest.mark.parametrize("true", [0.3, 1.0, 2.5, 8.0])
def test_a_temperature_is_found_again(true):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(40_000, 4)) * 3
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    classes = (probs.cumsum(1) > rng.random((len(probs), 1))).argmax(1)
    found = fit_temperature(logits * true, classes)
    assert found == pytest.approx(true, rel=0.03)
    grid = [nll(logits * true, classes, t) for t in np.exp(np.linspace(-3, 3, 400))]
    assert nll(logits * true, classes, found) <= min(grid) + 1e-6
    before, after = ((np.exp(z) / np.exp(z).sum(1, keepdims=True)) for z in (logits * true, logits * true / found))
    errors = [calibration_error(p.max(1), p.argmax(1) == classes) for p in (before, after)]
    assert errors[1] < 0.015
    assert errors[1] <= errors[0] + 0.005


def test_nll_of_one_pixel():
    assert nll(np.array([[0.0, np.log(3.0)]]), np.array([1])) == pytest.approx(np.log(4 / 3))
    assert nll(np.array([[0.0, 2 * np.log(3.0)]]), np.array([1]), 2.0) == pytest.approx(np.log(4 / 3))


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40))
def test_calibration_error_equals_the_definition(pairs):
    confidence, right = np.array([p for p, _ in pairs]), np.array([r for _, r in pairs])
    total = 0.0
    for b in range(10):
        mine = [(p, r) for p, r in pairs if int(p * 10) == b or (b == 9 and p == 1)]
        if mine:
            total += len(mine) / len(pairs) * abs(np.mean([r for _, r in mine]) - np.mean([p for p, _ in mine]))
    assert calibration_error(confidence, right, 10) == pytest.approx(total, abs=1e-9)


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.4, 0.7, 0.9]), st.booleans()), min_size=1, max_size=30))
def test_risk_coverage_equals_the_definition(pairs):
    confidence, right = np.array([p for p, _ in pairs]), np.array([r for _, r in pairs])
    coverage, risk, aurc = risk_coverage(confidence, right)
    thresholds = sorted(set(confidence.tolist()), reverse=True)
    wanted = [[r for p, r in pairs if p >= t] for t in thresholds]
    assert coverage.tolist() == pytest.approx([len(w) / len(pairs) for w in wanted])
    assert risk.tolist() == pytest.approx([1 - np.mean(w) for w in wanted])
    area = sum((1 - np.mean(w)) * (len(w) - (len(wanted[i - 1]) if i else 0)) for i, w in enumerate(wanted))
    assert aurc == pytest.approx(area / len(pairs))


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_detection_equals_the_definition(pairs):
    score, novel = np.array([float(s) for s, _ in pairs]), np.array([n for _, n in pairs])
    if novel.all() or not novel.any():
        with pytest.raises(HeterosegError, match="only one kind"):
            detection(score, novel)
        return
    auroc, fpr = detection(score, novel)
    wins = [1.0 if p > q else 0.5 if p == q else 0.0 for p in score[novel] for q in score[~novel]]
    assert auroc == pytest.approx(np.mean(wins))
    rates = [(np.mean(score[~novel] >= t)) for t in set(score.tolist()) if np.mean(score[novel] >= t) >= 0.95]
    assert fpr == pytest.approx(min(rates))


def test_ancestor_error():
    at = TREE.index
    cases = [
        ("u", "u", 0),
        ("u", "v", 1),
        ("u", "x", 1),
        ("u", "y", 2),
        ("u", "a", 2),
        ("u", "c", 3),
        ("u", "root", 3),
        ("x", "u", 0),
        ("c", "u", 1),
        ("a", "only", 1),
        ("only", "u", 2),
    ]
    true, decided = (np.array([at(case[i]) for case in cases]) for i in (0, 1))
    assert ancestor_error(TREE, true, decided).tolist() == [c[2] for c in cases]


@pytest.mark.parametrize(
    "call",
    [
        lambda e: fit_temperature(np.zeros((0, 2)), e),
        lambda e: calibration_error(e, e),
        lambda e: risk_coverage(e, e),
    ],
)
def test_no_pixels(call):
    with pytest.raises(HeterosegError, match="found none"):
        call(np.zeros(0))
