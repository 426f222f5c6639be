"""Where an unknown dataset's labels belong in a tree: proposals with evidence, as a label space that a person edits.

Two witnesses: names (`name_matching`), and what a trained network sees under each label's pixels. The labels of a
dataset divide the leaves among them, so each leaf goes to the label with the best claim on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from heteroseg.curation.name_matching import meanings, relation
from heteroseg.curation.spec_text import space_yaml
from heteroseg.datasets import list_items, read_sample
from heteroseg.datasets.sample import Sample, spread_evenly
from heteroseg.errors import HeterosegError
from heteroseg.evaluation.metrics import count_pairs
from heteroseg.files import Document, write_text
from heteroseg.labels.space import LabelEntry, LabelSpaceFile, build_label_space
from heteroseg.labels.taxonomy import Taxonomy
from heteroseg.model.model import Model
from heteroseg.supervision.targets import paint_boxes
from heteroseg.writing import require_absent

CLAIM, LOOSE = 0.5, 0.35  # least claim that gives a leaf to a label, in the first and in a wider proposal
SEEN = 0.005  # a leaf that is seen in this part of some label's pixels counts half
INHERITED = 0.95  # a name counts for the leaves under its node, a little less than for the node itself


@dataclass(frozen=True)
class Evidence:
    """What a network saw under each label: `pixels` (labels + 1,), `hits` (labels + 1, leaves) int64 pixels whose
    largest leaf it is, `mass` (labels + 1, leaves) float64 summed probabilities. The last row is what the dataset
    ignores.
    """

    pixels: np.ndarray
    hits: np.ndarray
    mass: np.ndarray
    images: int


@dataclass(frozen=True)
class Proposal:
    """Leaves for one label. `name` is the best score of names; `seen` and `own` are None without a network: the part of
    the label's pixels that is seen in these leaves, and the part of the pixels seen in them that has this label.
    """

    leaves: frozenset[int]
    name: float
    claimed: bool  # no other label has a better claim on any of the leaves
    seen: float | None = None
    own: float | None = None

    @property
    def kind(self) -> str:
        """How the pixels of label and leaves lie to each other; `by name` where none were seen."""
        if self.seen is None or self.own is None:
            return "by name"
        if self.own >= 0.5:
            return "equal to" if self.seen >= 0.5 else "union of more than"
        return "part of" if self.seen >= 0.5 else "overlapping"


def collect(
    model: Model, labels: Sequence[LabelEntry], reader: str, root: Path, split: str, options: dict, images: int
) -> Evidence:
    """Predict `images` images of a split, spread evenly over it; count what lies under each label."""
    items = spread_evenly(list_items(reader, root, split, options), images)
    mapped = [label.id for label in labels if not label.ignore]
    row = {label.id: len(mapped) for label in labels if label.ignore} | {number: i for i, number in enumerate(mapped)}
    shape = (len(mapped) + 1, len(model.taxonomy.leaves))
    hits, mass = np.zeros(shape, np.int64), np.zeros(shape)
    for item in items:
        sample = read_sample(item)
        rows = _rows(sample, row, str(item.mask or item.image))
        for band, probs in model.predict(sample.image).leaf_bands():
            known = rows[band] >= 0
            label_rows, label_probs = rows[band][known], probs[:, known]
            hits += count_pairs(label_rows, label_probs.argmax(0), shape)
            for i in np.unique(label_rows):
                mass[i] += label_probs[:, label_rows == i].sum(1, dtype=np.float64)
    return Evidence(hits.sum(1), hits, mass, len(items))


def _rows(sample: Sample, row: dict[int, int], file: str) -> np.ndarray:
    """(H, W) int64 row of each pixel's label, -1 where the image says nothing."""
    ids = sample.mask
    if ids is None:
        size = (sample.image.shape[0], sample.image.shape[1])
        ids = paint_boxes(sample.boxes, ["rectangle"] * len(sample.boxes), sample.box_ids, size)
    result = np.full(ids.shape, -1, np.int64)
    for number in np.unique(ids[ids >= 0]).tolist():
        if number not in row:
            raise HeterosegError(f"{file}: the id {number} is in no label of the list; add it, or choose another --id")
        result[ids == number] = row[number]
    return result


def name_scores(labels: Sequence[LabelEntry], tree: Taxonomy) -> np.ndarray:
    """(labels, leaves) float64: the best score of a label's name against the leaf's and those above it (no root)."""
    scores = np.array([[0.0, *(_name_score(b.name, tree, n) for n in range(1, len(tree)))] for b in labels])
    result = np.zeros((len(labels), len(tree.leaves)))
    for j, leaf in enumerate(tree.leaves):
        path = tree.path(leaf)[1:]
        result[:, j] = np.max([scores[:, n] * INHERITED ** (len(path) - 1 - k) for k, n in enumerate(path)], 0)
    return result


def _name_score(name: str, tree: Taxonomy, node: int) -> float:
    """How near the name of a label is to that of a node, from 0 to 1."""
    score, kind = relation(name, tree.names[node])
    if name.lower() == tree.names[node].lower():
        return 1.0
    if kind == "same" and meanings(name) == meanings(tree.names[node]):
        return 0.97
    if tree.children[node] and kind not in ("same", "kind"):
        return 0.0  # says nothing about all that lies under the node
    return score


def claims(names: np.ndarray, evidence: Evidence | None) -> np.ndarray:
    """(labels, leaves) float64, 0 to 1: name and sight as if independent; what the dataset ignores discounts a name.

    A leaf's sight is its share of mean probability among the labels, so that large labels do not swallow small ones,
    times how much it is seen at all.
    """
    if evidence is None:
        return names
    rate = evidence.mass / np.maximum(evidence.pixels, 1)[:, None]
    share = rate / np.maximum(rate.sum(0), 1e-12)
    sight = share * (rate.max(0) / (rate.max(0) + SEEN))
    doubted = np.where(names >= 0.97, names, names * (1 - sight[-1]))
    return 1 - (1 - doubted) * (1 - sight[:-1])


def divide(claim: np.ndarray, min_claim: float) -> list[frozenset[int]]:
    """Each label's leaves: those on which its claim is the best and at least `min_claim`."""
    best, owner = claim.max(0), claim.argmax(0)
    return [frozenset(np.flatnonzero((owner == i) & (best >= min_claim)).tolist()) for i in range(len(claim))]


def propose(labels: Sequence[LabelEntry], tree: Taxonomy, evidence: Evidence | None = None) -> list[list[Proposal]]:
    """Up to three proposals for each label that is not ignored, the best first."""
    mapped = [label for label in labels if not label.ignore]
    if not mapped:
        raise HeterosegError("the list has no label that means something, so there is nothing to place")
    names = name_scores(mapped, tree)
    claim = claims(names, evidence)
    divisions = [divide(claim, CLAIM), divide(claim, LOOSE), divide(names, CLAIM)]
    if evidence is not None:
        divisions.append(divide(claims(np.zeros_like(names), evidence), LOOSE))
    result = []
    for i in range(len(mapped)):
        best = np.argsort(-claim[i], kind="stable")[:3]
        sets = [division[i] for division in divisions] + [frozenset([int(j)]) for j in best if claim[i, j] > 0]
        distinct = [s for s in dict.fromkeys(sets) if s]
        result.append([_judged(i, leaves, leaves == sets[0], names, evidence) for leaves in distinct[:3]])
    return result


def _judged(
    label: int, leaves: frozenset[int], claimed: bool, names: np.ndarray, evidence: Evidence | None
) -> Proposal:
    columns = sorted(leaves)
    score = float(names[label, columns].max())
    if evidence is None or not evidence.pixels[label]:
        return Proposal(leaves, score, claimed)
    inside = int(evidence.hits[label, columns].sum())
    of_all = int(evidence.hits[:-1, columns].sum())
    return Proposal(leaves, score, claimed, inside / int(evidence.pixels[label]), inside / max(of_all, 1))


def _describe(tree: Taxonomy, proposal: Proposal) -> str:
    nodes = " + ".join(tree.names[n] for n in tree.cover(proposal.leaves))
    parts = [f"names {proposal.name:.2f}"]
    if proposal.seen is not None and proposal.own is not None:
        parts.append(f"{proposal.seen:.0%} of its pixels are seen there")
        parts.append(f"{proposal.own:.0%} of those seen there are its")
    return f"{proposal.kind} {nodes} ({', '.join(parts)})"


def draft(
    labels: Sequence[LabelEntry], tree: Taxonomy, proposals: list[list[Proposal]]
) -> tuple[list[LabelEntry], dict[int, list[str]]]:
    """The lines of a label space of the first proposals, and all proposals as comments on each label, by its id."""
    entries, notes, remaining = [], {}, iter(proposals)
    taken = {leaf for ranked in proposals if ranked and ranked[0].claimed for leaf in ranked[0].leaves}
    for label in labels:
        if label.ignore:
            entries.append(label.model_copy(update={"evaluate": True}))
            continue
        ranked = next(remaining)
        first = ranked[0].leaves if ranked else frozenset()
        told = [f"{i}. {_describe(tree, p)}" for i, p in enumerate(ranked, 1)] or ["nothing found: name its nodes"]
        if ranked and not ranked[0].claimed and first & taken:
            told.insert(0, "ignored for now: other labels have better claims on all that it might be")
            first = frozenset()
        taken |= first
        nodes = [tree.names[n] for n in tree.cover(first)]
        meaning = {"nodes": nodes, "ignore": not nodes, "evaluate": label.evaluate or not nodes}
        entries.append(label.model_copy(update=meaning))
        notes[label.id] = told
    return entries, notes


def suggest(
    labels: Sequence[LabelEntry], tree: Taxonomy, evidence: Evidence | None, out: Path, taxonomy: str, source: str
) -> str:
    """Propose, write the draft to `out`, and return the first proposals as a table of text.

    `taxonomy` is how the draft names the tree, `source` where it says that it comes from. No file is replaced.
    """
    proposals = propose(labels, tree, evidence)
    if out.suffix not in (".yaml", ".yml"):
        raise HeterosegError(f"{out}: expected a label space file to write, ending .yaml; choose another --out")
    require_absent(out)
    entries, notes = draft(labels, tree, proposals)
    content = {"name": out.stem, "taxonomy": taxonomy, "labels": entries}
    space = Document(Path(f"--out {out}"), content).parse(LabelSpaceFile)
    build_label_space(space, tree)
    head = [f"A draft from {source}.", "Read every line, change what is wrong, delete the comments."]
    write_text(out, space_yaml(space, head, notes))
    mapped = [label for label in labels if not label.ignore]
    width = max(len(label.name) for label in mapped)
    told = [_describe(tree, ranked[0]) if ranked else "nothing found" for ranked in proposals]
    return "\n".join(f"{b.id:6d}  {b.name:<{width}}  {text}" for b, text in zip(mapped, told, strict=True))
