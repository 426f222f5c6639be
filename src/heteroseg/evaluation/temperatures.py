"""A temperature for every classifier of a network from validation data, and what it does to its confidence.

Every second image of each dataset fits, the others judge. A sampled pixel weighs as the part of an image that it stands
for, so all images of a dataset together count as much as those of any other, but where a dataset labels only little of
its images (signs), this little does not decide about the classifiers of everything.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from heteroseg.decisions.reference import label_probs, leaf_probs
from heteroseg.errors import HeterosegError
from heteroseg.evaluation.calibration import calibration_error, fit_temperature, log_softmax, nll, risk_coverage
from heteroseg.evaluation.metrics import groups_at_depth
from heteroseg.evaluation.pixels import Pixels, sample_pixels
from heteroseg.evaluation.promised import fit_promise
from heteroseg.experiment.sources import Source
from heteroseg.labels.space import LabelSpace
from heteroseg.labels.taxonomy import Taxonomy
from heteroseg.model.model import Model
from heteroseg.model.promise import Promise
from heteroseg.networks.network import Network

FEWEST = 50  # pixels that a classifier needs, in each half, to get a temperature of its own


def children_of_labels(space: LabelSpace, classifier: int) -> np.ndarray:
    """(labels,) int64 which child of a classifier each label lies under, -1 where it does not tell."""
    tree = space.taxonomy
    kids = [tree.leaves_of(k) for k in tree.classifiers[classifier].children]
    return np.array([next((i for i, k in enumerate(kids) if b.leaves and b.leaves <= k), -1) for b in space.labels])


def _error(logits: np.ndarray, classes: np.ndarray, temperature: float, weights: np.ndarray) -> float:
    probs = np.exp(log_softmax(logits / temperature))
    return calibration_error(probs.max(1), probs.argmax(1) == classes, weights=weights)


def _of_labels(pixels: Pixels, temperatures: np.ndarray) -> dict[str, Any]:
    """Confidence of the largest label among those that judge: calibration error, AURC, accuracy, and `risk`: the part
    that is wrong among the surest 5, 10, ... 100 %."""
    space, judged = pixels.space, pixels.judge
    logits = torch.from_numpy(pixels.logits[judged] / temperatures).T[None, :, :, None]
    leaf = leaf_probs(logits, space.taxonomy)[0, :, :, 0].numpy()
    labels = np.zeros((len(space.labels), leaf.shape[1]), np.float64)
    inside = space.by_leaf >= 0
    np.add.at(labels, space.by_leaf[inside], leaf[inside])
    confidence, right = labels.max(0).clip(0, 1), labels.argmax(0) == pixels.labels[judged]
    coverage, risk, aurc = risk_coverage(confidence, right)
    at = np.minimum(np.searchsorted(coverage, np.arange(1, 21) / 20 - 1e-9), len(coverage) - 1)
    ece = calibration_error(confidence, right)
    return {"acc": float(right.mean()), "ece": ece, "aurc": aurc, "risk": risk[at].tolist()}


def errors_by_depth(pixels: Pixels, space: LabelSpace) -> dict[str, float]:
    """Expected calibration error of the likeliest label, where labels are merged at each depth of the tree of `space`,
    which has the labels of `pixels.space`, perhaps over another tree."""
    logits = torch.from_numpy(pixels.logits).T[None, :, None]
    probs = label_probs(logits, pixels.space)[0][0, :, 0].double().numpy()
    errors = {}
    for depth in range(1, max(space.taxonomy.depths) + 1):
        groups, names = groups_at_depth(space, depth)
        merged = np.zeros((len(names), probs.shape[1]))
        np.add.at(merged, groups, probs)
        errors[str(depth)] = calibration_error(merged.max(0).clip(0, 1), merged.argmax(0) == groups[pixels.labels])
    return errors


def _fit(tree: Taxonomy, parts: Sequence[Pixels]) -> dict[str, dict[str, Any]]:
    result: dict[str, dict[str, Any]] = {}
    logits, judge, weight = (np.concatenate([getattr(p, key) for p in parts]) for key in ("logits", "judge", "weight"))
    for index, c in enumerate(tree.classifiers):
        classes = np.concatenate([children_of_labels(part.space, index)[part.labels] for part in parts])
        known = classes >= 0
        z, y, j, w = logits[known, c.start : c.stop], classes[known], judge[known], weight[known]
        entry = result[tree.names[c.node]] = {"temperature": 1.0, "pixels": len(y)}
        wrong = (z[~j].argmax(1) != y[~j]).any()  # where it never errs, ever lower temperatures are ever likelier
        if min((~j).sum(), j.sum()) >= FEWEST and wrong:
            t = entry["temperature"] = fit_temperature(z[~j], y[~j], w[~j])
            entry |= {key: [f(z[j], y[j], u, w[j]) for u in (1.0, t)] for key, f in (("nll", nll), ("ece", _error))}
    return result


def calibrate(
    model: Model, sources: Sequence[Source], limit: int | None = None, log: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """`classifiers` by node name: temperature (1 where there were too few pixels), pixels, and [before, after] of nll
    and ece on the images that judge; `datasets`: [before, after] of the labels' ece, aurc, accuracy and risk;
    `promise`: what `fit_promise` found with these temperatures.
    """
    parts = {}
    for source in sources:
        if source.val:
            log(source.name)
            parts[source.name] = sample_pixels(model, source, limit)
    if not parts:
        raise HeterosegError("no dataset of the experiment has a val split; set val: to the split to calibrate on")
    tree = model.taxonomy
    classifiers = _fit(tree, list(parts.values()))
    temperatures = np.ones(tree.channels, np.float32)
    for c in tree.classifiers:
        temperatures[c.start : c.stop] = classifiers[tree.names[c.node]]["temperature"]
    datasets = {}
    for name, part in parts.items():
        if part.judge.any():
            before, after = _of_labels(part, np.ones_like(temperatures)), _of_labels(part, temperatures)
            datasets[name] = {key: [before[key], after[key]] for key in before}
    promise = fit_promise(tree, parts, temperatures).model_dump(mode="json")
    return {"model_digest": model.digest, "classifiers": classifiers, "datasets": datasets, "promise": promise}


def calibrated(model: Model, temperatures: dict[str, float], promise: Promise | None = None) -> Model:
    """A copy of a model whose classifiers, by node name, are divided by temperatures (those not named stay).

    The division goes into the last layer's weights: exports, decisions and confidences need not know of it, the digest
    tells it, and no pixel takes longer. Decisions of the path rule stay as they were. `promise` is that of the copy.
    """
    if not isinstance(model.network, Network):
        raise HeterosegError("an exported network cannot be calibrated; calibrate its MODEL and export that again")
    tree, network = model.taxonomy, copy.deepcopy(model.network)
    new = {tree.names[c.node]: temperatures.get(tree.names[c.node], 1.0) for c in tree.classifiers}
    network.head.divide(list(new.values()))
    total = {name: t * model.temperatures.get(name, 1.0) for name, t in new.items()}
    total = {name: t for name, t in total.items() if t != 1}
    known = model.name, network, tree, model.spaces, model.config, model.decision
    return Model(*known, temperatures=total, promise=promise)
