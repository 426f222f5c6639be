"""How far the probabilities of a network can be trusted, and decisions that stop where they cannot.

Pure functions on arrays. Temperature scaling and the expected calibration error after Guo et al. (ICML 2017), the
risk-coverage curve after Geifman & El-Yaniv (NIPS 2017), the error by the lowest common ancestor after Deng et al.
(ECCV 2010), scores for unknown classes as AUROC and FPR95 after Hendrycks & Gimpel (ICLR 2017).
"""

import numpy as np

from heteroseg.errors import HeterosegError
from heteroseg.labels.taxonomy import Taxonomy

HOTTEST = 50.0  # temperatures are sought between 1 / HOTTEST and HOTTEST


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """(N, K) float64 log probabilities."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def nll(logits: np.ndarray, classes: np.ndarray, temperature: float = 1.0, weights: np.ndarray | None = None) -> float:
    """Mean −log p(class) of (N, K) logits / temperature; `classes` (N,) ints, `weights` (N,) of the mean."""
    each = -log_softmax(logits / temperature)[np.arange(len(classes)), classes]
    return float(np.average(each, weights=weights))


def fit_temperature(logits: np.ndarray, classes: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The temperature with the least nll, to 0.1 %; (N, K) logits, (N,) classes and weights.

    The nll is convex in 1 / temperature, so halving finds where its slope is 0. No pixels raise HeterosegError.
    """
    if not len(classes):
        raise HeterosegError("expected labelled pixels to fit a temperature to, found none")
    of_class = logits[np.arange(len(classes)), classes]
    low, high = -np.log(HOTTEST), np.log(HOTTEST)
    while high - low > 1e-3:
        middle = (low + high) / 2
        expected = (np.exp(log_softmax(logits / np.exp(middle))) * logits).sum(1)
        too_sure = np.average(expected - of_class, weights=weights) > 0
        low, high = (middle, high) if too_sure else (low, middle)
    return float(np.exp((low + high) / 2))


def calibration_error(
    confidence: np.ndarray, right: np.ndarray, bins: int = 15, weights: np.ndarray | None = None
) -> float:
    """Expected calibration error: |share right − mean confidence| in equal bins of confidence, weighted by pixels.

    `confidence` (N,) from 0 to 1, `right` (N,) bool, `weights` (N,) of the pixels.
    """
    if not len(confidence):
        raise HeterosegError("expected pixels to find the calibration error of, found none")
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    weights = np.ones(len(confidence)) if weights is None else weights
    gap = np.bincount(place, weights=(right.astype(np.float64) - confidence) * weights, minlength=bins)
    return float(np.abs(gap).sum() / weights.sum())


def risk_coverage(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """`coverage` and `risk` (N,): of the most confident part of all, the part that is wrong; and the mean risk (AURC).

    The curve is over all thresholds; pixels of equal confidence stand or fall together. `right` (N,) bool.
    """
    if not len(confidence):
        raise HeterosegError("expected pixels to find the risk of, found none")
    order = np.argsort(-confidence, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(confidence[order])), len(order) - 1)
    kept = ends + 1.0
    risk = np.cumsum(~right[order].astype(bool))[ends] / kept
    coverage = kept / len(order)
    return coverage, risk, float((risk * np.diff(coverage, prepend=0.0)).sum())


def ancestor_error(tree: Taxonomy, true: np.ndarray, decided: np.ndarray) -> np.ndarray:
    """(N,) int64 steps from the true node up to their lowest common ancestor: 0 where `decided` is the true
    node or under it, 1 where it is the parent or in another branch of it. `true` and `decided` (N,) nodes.
    """
    pairs, back = np.unique(np.stack([true, decided], 1), axis=0, return_inverse=True)
    heights = [tree.depths[pair[0]] - tree.depths[tree.common_ancestor(pair)] for pair in pairs.tolist()]
    return np.array(heights, np.int64)[back.ravel()]


def detection(score: np.ndarray, novel: np.ndarray) -> tuple[float, float]:
    """(AUROC, FPR95) of a score that should be higher for novel pixels; `novel` (N,) bool, both kinds must occur.

    AUROC is the chance that a novel pixel has the higher score (ties count half); FPR95 the part of known pixels at or
    above the highest threshold that finds at least 95 % of the novel ones.
    """
    positives, negatives = np.sort(score[novel]), np.sort(score[~novel])
    if not len(positives) or not len(negatives):
        raise HeterosegError("expected both known and novel pixels to score novelty, found only one kind")
    below = np.searchsorted(negatives, positives, "left") + np.searchsorted(negatives, positives, "right")
    auroc = float(below.sum() / 2 / len(positives) / len(negatives))
    threshold = positives[len(positives) - int(np.ceil(0.95 * len(positives)))]
    return auroc, float((negatives >= threshold).mean())
