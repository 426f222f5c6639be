"""Answers that are right as often as was promised: thresholds from val images, and whether the promise was held.

Conformal risk control (Angelopoulos et al., ICLR 2024): of a loss in [0, 1] that never rises with a threshold, the
smallest threshold with n / (n + 1) * (mean loss of n images) + 1 / (n + 1) <= a keeps the expected loss of a further
image of the same kind at a or less. Images are exchangeable, their pixels are not. An answer is right where one of its
leaves is among those that the true label allows; so what lies above a right node is right.

The images that fit give each depth a threshold of its own: of the pixels whose likeliest path goes so deep and whose
label tells so much, 1 - precision at most are answered there and wrong. Those that judge raise all of these together,
until no more of all pixels are answered wrong, in the images of all datasets (corrected) and of each (as counted).
"""

from collections.abc import Mapping

import numpy as np
import torch

from heteroseg.decisions.reference import back_off, node_probs
from heteroseg.evaluation.metrics import compatible, count_pairs
from heteroseg.evaluation.pixels import Pixels
from heteroseg.labels.taxonomy import Taxonomy
from heteroseg.model.promise import NEVER, Promise

STEPS = np.round([0, *(1 / (1 + np.exp(-np.arange(-4, 14, 0.1)))), 1, NEVER], 7)  # thresholds that are tried
LAST = len(STEPS) - 1
PRECISIONS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99, 0.995)


def _walk(pixels: Pixels, temperatures: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Down the likeliest path of N pixels, (N, depths) each: the last of STEPS that the node reaches (all of them below
    the path's end), whether it is wrong, and whether a wrong one counts at this depth, as the path and the label go on.
    """
    space, tree = pixels.space, pixels.space.taxonomy
    logits = torch.from_numpy(pixels.logits / temperatures).T[None, :, None]
    ends = back_off(logits, tree, 0)[0, 0].numpy()
    probs = torch.stack(node_probs(logits, tree))[:, 0, 0].numpy()
    deepest = max(tree.depths)
    paths = np.array([[*tree.path(n)[1:], *[-1] * (deepest - tree.depths[n])] for n in range(len(tree))])[ends]
    on = paths >= 0
    steps = STEPS.astype(np.float32)  # as decisions compare them
    reached = np.searchsorted(steps, probs[paths, np.arange(len(ends))[:, None]], "right") - 1
    wrong = on & ~compatible(space)[paths, pixels.labels[:, None]]
    tells = [min((tree.depths[n] if tree.children[n] else deepest for n in tree.cover(b.leaves)), default=0)
             for b in space.labels]  # fmt: skip
    counts = on & (np.array(tells)[pixels.labels][:, None] >= np.arange(1, deepest + 1))
    return np.where(on, reached, LAST + 1), wrong, counts


def _risk(image: np.ndarray, steps: np.ndarray, corrected: bool = True) -> np.ndarray:
    """(STEPS,) mean over images of the share of pixels that are answered wrong from a step on; for each pixel (N,) the
    number of its image and the last step at which it still is, -1 none."""
    numbers, places = np.unique(image, return_inverse=True)
    counts = count_pairs(places, np.clip(steps, -1, LAST) + 1, (len(numbers), LAST + 2))
    shares = counts[:, ::-1].cumsum(1)[:, ::-1] / counts.sum(1, keepdims=True)
    n = len(numbers)
    return (shares[:, 1:].sum(0) + corrected) / max(n + corrected, 1)


def _first(risk: np.ndarray, most: float) -> int:
    """The smallest step with no more than so much risk; the last where there is none."""
    return int(np.append(np.flatnonzero(risk <= most + 1e-9), LAST)[0])


def fit_promise(tree: Taxonomy, parts: Mapping[str, Pixels], temperatures: np.ndarray) -> Promise:
    """Thresholds for all of PRECISIONS that the judging images suffice for, where logits are divided by `temperatures`
    (channels,). `parts` are pixels by dataset."""
    walks = [_walk(part, temperatures) for part in parts.values()]
    reached, wrong, counts = (np.concatenate(each) for each in zip(*walks, strict=True))
    judge = np.concatenate([part.judge for part in parts.values()])
    dataset = np.repeat(np.arange(len(parts)), [len(part.labels) for part in parts.values()])
    image = np.concatenate([part.image for part in parts.values()]) * len(parts) + dataset
    by_depth = []
    for d in range(wrong.shape[1]):
        at = counts[:, d] & ~judge
        by_depth.append(_risk(image[at], np.where(wrong, reached, -1)[at, d]))
    images = {name: len(np.unique(part.image[part.judge])) for name, part in parts.items()}
    least, above = {}, np.full(wrong.shape[1], LAST)  # thresholds of the next higher precision: none is above them
    for precision in reversed(PRECISIONS):
        most = 1 - precision
        if 1 / (sum(images.values()) + 1) > most + 1e-9:
            continue
        first = np.array([_first(risk, most) for risk in by_depth])
        passes = np.where(reached >= above, LAST, reached - first)
        through = np.minimum.accumulate(passes, 1)[np.arange(len(wrong)), wrong.argmax(1)]
        steps = np.where(wrong.any(1), through, -1)  # by how many steps thresholds may rise with a wrong answer left
        risks = [_risk(image[judge], steps[judge])]
        risks += [_risk(image[at], steps[at], False) for k in range(len(parts)) if (at := judge & (dataset == k)).any()]
        above = np.minimum(first + max(_first(risk, most) for risk in risks), above)
        least[precision] = STEPS[above].tolist()
    return Promise(images=images, least=dict(sorted(least.items())))
