"""How well things that a network was never taught stand out, on the val images of an experiment with `hold_out`."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from heteroseg.decisions.reference import SCORES, leaf_probs, novelty
from heteroseg.errors import HeterosegError
from heteroseg.evaluation.calibration import detection
from heteroseg.evaluation.pixels import Pixels, sample_pixels
from heteroseg.evaluation.scores import require_tree_of
from heteroseg.experiment.sources import Source
from heteroseg.labels.taxonomy import Taxonomy
from heteroseg.model.model import Model

PER_IMAGE = 4000  # labelled pixels that are looked at in an image: what is held out is rare


def _judge(pixels: Pixels, held: frozenset[int], tree: Taxonomy) -> dict[str, Any] | None:
    """The entry of one dataset, None where it has no held-out or no other label."""
    labels = pixels.space.labels
    novel_labels = np.array([bool(b.leaves) and b.leaves <= held for b in labels])
    known_labels = np.array([bool(b.leaves) and not b.leaves & held for b in labels])
    novel, known = novel_labels[pixels.labels], known_labels[pixels.labels]
    if not novel.any() or not known.any():
        return None
    both = novel | known  # a label that is wider than what is held out may hold either
    of_label = [(labels[i], pixels.labels == i) for i in np.unique(pixels.labels[novel])]
    logits = torch.from_numpy(pixels.logits).T[None, :, None]
    rows = {}
    for score in SCORES:
        values = novelty(logits, tree, score)[0, 0].numpy()
        auroc, fpr95 = detection(values[both], novel[both])
        by_label = {b.name: detection(values[own | known], own[own | known])[0] for b, own in of_label}
        rows[score] = {"auroc": auroc, "fpr95": fpr95, "labels": by_label}
    leaf = leaf_probs(logits, tree)[0, :, 0].numpy()
    parents = {}
    for label, own in of_label:
        parent = tree.parents[tree.common_ancestor(tree.cover(label.leaves))]
        if parent > 0:
            share = float((leaf[slice(*tree.spans[parent]), own].sum(0) > 0.5).mean())
            parents[label.name] = {"parent": tree.names[parent], "share": share}
    return {"novel": int(novel.sum()), "known": int(known.sum()), "scores": rows, "parent": parents}


def judge_novelty(
    model: Model,
    sources: Sequence[Source],
    nodes: Sequence[str],
    limit: int | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """How well the pixels of held-out `nodes` stand out, for each dataset that labels something of them.

    An entry has the number of `novel` and `known` pixels, random from every image; for each score of
    `decisions.reference.novelty` AUROC and FPR95 of telling them apart; and for each held-out label the share of its
    pixels that are still seen as its parent. The sources must have their whole label spaces.
    """
    tree = model.taxonomy
    if not nodes:
        raise HeterosegError("hold_out names nothing, expected what was not taught, such as hold_out='[car]'")
    for source in sources:
        require_tree_of(model, source, "judge with")
    held = frozenset[int]().union(*(tree.leaves_of(tree.index(n)) for n in nodes))
    result = {}
    for source in sources:
        if source.val and any(b.leaves and b.leaves <= held for b in source.space.labels):
            log(source.name)
            if entry := _judge(sample_pixels(model, source, limit, PER_IMAGE), held, tree):
                result[source.name] = entry
    if not result:
        raise HeterosegError(f"expected val images with a label for {', '.join(nodes)} alone, found none; name others")
    return {"hold_out": list(nodes), "datasets": result}
