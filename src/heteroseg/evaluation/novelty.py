"""How well things that a network was never taught stand out, on the val images of an experiment with `hold_out`."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from heteroseg.decisions.reference import SCORES, leaf_probs, novelty
from heteroseg.errors import HeterosegError
from heteroseg.evaluation.calibration import detection
from heteroseg.evaluation.scores import require_tree_of
from heteroseg.evaluation.temperatures import Pixels, sample_pixels
from heteroseg.experiment.sources import Source
from heteroseg.labels.taxonomy import Taxonomy
from heteroseg.model.model import Model

PER_IMAGE = 4000  # labelled pixels that are looked at in an image: what is held out is rare


def _judge(pixels: Pixels, held: frozenset[int], tree: Taxonomy) -> dict[str, Any] | None:
    """The entry of one dataset, None where it has no held-out or no other label."""
    space = pixels.space
    novel_labels = np.array([bool(b.leaves) and b.leaves <= held for b in space.labels])
    known_labels = np.array([bool(b.leaves) and not b.leaves & held for b in space.labels])
    novel, known = novel_labels[pixels.labels], known_labels[pixels.labels]
    if not novel.any() or not known.any():
        return None
    both = novel | known  # a label that is wider than what is held out may hold either
    logits = torch.from_numpy(pixels.logits).T[None, :, None]
    rows: dict[str, Any] = {}
    for score in SCORES:
        values = novelty(logits, tree, score)[0, 0].numpy()
        auroc, fpr95 = detection(values[both], novel[both])
        labels = {}
        for i in np.flatnonzero(novel_labels & (np.bincount(pixels.labels, minlength=len(space.labels)) > 0)):
            mine = pixels.labels == i
            labels[space.labels[i].name] = detection(values[mine | known], mine[mine | known])[0]
        rows[score] = {"auroc": auroc, "fpr95": fpr95, "labels": labels}
    leaf = leaf_probs(logits, tree)[0, :, 0].numpy()
    kin = {}
    for i in np.flatnonzero(novel_labels):
        mine = pixels.labels == i
        top = tree.common_ancestor(tree.cover(space.labels[i].leaves))
        parent = tree.parents[top] if top else 0
        if mine.any() and parent:
            start, stop = tree.spans[parent]
            share = float((leaf[start:stop, mine].sum(0) > 0.5).mean())
            kin[space.labels[i].name] = {"parent": tree.names[parent], "share": share}
    return {"novel": int(novel.sum()), "known": int(known.sum()), "scores": rows, "parent": kin}


def judge_novelty(
    model: Model,
    sources: Sequence[Source],
    nodes: Sequence[str],
    limit: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """For each dataset that labels something held out (`nodes`): `novel` and `known` pixels, random from every image,
    for each score of `decision.novelty` AUROC and FPR95 of telling them apart, and for each held-out label how many of
    its pixels are still seen as its parent. The sources must have their whole label spaces.
    """
    tree = model.taxonomy
    if not nodes:
        raise HeterosegError("hold_out names nothing; say what the network was not taught, such as hold_out='[car]'")
    for source in sources:
        require_tree_of(model, source, "judge with")
    held = frozenset[int]().union(*(tree.leaves_of(tree.index(n)) for n in nodes))
    result = {}
    for source in sources:
        if source.val and any(b.leaves and b.leaves <= held for b in source.space.labels):
            say(source.name)
            entry = _judge(sample_pixels(model, source, limit, PER_IMAGE), held, tree)
            if entry:
                result[source.name] = entry
    if not result:
        raise HeterosegError(
            f"no val image has pixels of a label for {', '.join(nodes)} alone; name nodes that a dataset labels"
        )
    return {"hold_out": list(nodes), "datasets": result}


def novelty_table(result: dict[str, Any]) -> str:
    """The figures as text."""
    lines = [f"{'dataset':<18}{'score':<14}{'AUROC':>7}{'FPR95':>8}   by label"]
    for name, entry in result["datasets"].items():
        for score, row in entry["scores"].items():
            labels = ", ".join(f"{label} {auroc:.3f}" for label, auroc in row["labels"].items())
            lines.append(f"{name:<18}{score:<14}{row['auroc']:>7.3f}{row['fpr95']:>8.3f}   {labels}")
        for label, kin in entry["parent"].items():
            lines.append(f"{name:<18}{label}: {100 * kin['share']:.1f} % of its pixels are seen as {kin['parent']!r}")
    return "\n".join(lines)
