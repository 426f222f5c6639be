"""Finer labels for a dataset of coarse masks, under the constraint of the labels that it has.

A pixel keeps what its dataset says: only the leaves that its label covers compete, p(fine | coarse) =
p(fine and coarse) / p(coarse). Where the best fine label is not sure enough the pixel keeps its coarse label, as
one of the new label space, so nothing is guessed and nothing is lost.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from heteroseg.curation.spec_text import Entry, checked_space, space_yaml, taxonomy_reference, write_taxonomy
from heteroseg.datasets import read_sample
from heteroseg.datasets.encoding import write_ids
from heteroseg.datasets.sample import Item
from heteroseg.errors import HeterosegError
from heteroseg.evaluation.scores import require_tree_of
from heteroseg.experiment.sources import Source, source_named
from heteroseg.files import require_empty, write_json, write_text, written
from heteroseg.labels.space import LabelSpace
from heteroseg.model.model import Model
from heteroseg.model.prediction import Prediction
from heteroseg.supervision.targets import to_label_indices

BINS = 1000
THRESHOLDS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Refinement:
    """Per coarse label: `choices` the fine labels that share leaves with it, `groups` (choices, leaves) 0/1 float32
    which of its leaves each takes, `leaves` (leaves,) bool its own. `keeps`: a pixel may keep the label; not where
    a fine label crosses it, since a label space cannot hold both.
    """

    choices: tuple[tuple[int, ...], ...]
    groups: tuple[np.ndarray, ...]
    leaves: tuple[np.ndarray, ...]
    keeps: tuple[bool, ...]


def refine(coarse: LabelSpace, fine: LabelSpace) -> Refinement:
    """What each coarse label may become. Spaces of which none is finer anywhere raise HeterosegError."""
    choices, groups, leaves, keeps = [], [], [], []
    for label in coarse.labels:
        mine = np.zeros(len(coarse.taxonomy.leaves), bool)
        mine[sorted(label.leaves)] = True
        found = sorted({int(fine.by_leaf[leaf]) for leaf in label.leaves} - {-1})
        choices.append(tuple(found))
        taken = [mine & (fine.by_leaf == f) for f in found]
        groups.append(np.array(taken, np.float32).reshape(len(found), len(mine)))
        leaves.append(mine)
        others = (other.leaves for other in fine.labels)
        keeps.append(all(not label.leaves & o or label.leaves <= o or o <= label.leaves for o in others))
    if all(len(c) < 2 for c in choices):
        raise HeterosegError(
            f"label space {fine.name!r} divides no label of {coarse.name!r}, so there is nothing to refine; "
            "name a finer one with --labels"
        )
    return Refinement(tuple(choices), tuple(groups), tuple(leaves), tuple(keeps))


def refined(prediction: Prediction, given: np.ndarray, refinement: Refinement) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) int16 given coarse positions (-1 unknown) to (H, W) int16 fine positions (-1 where no fine label is
    possible) and (H, W) float32 p(fine | coarse); a coarse label that is a fine one gives 1.
    """
    fine, sure = np.full(given.shape, -1, np.int16), np.zeros(given.shape, np.float32)
    for rows, probs in prediction.leaf_bands():
        for label in np.unique(given[rows]).tolist():
            if label < 0 or not refinement.choices[label]:
                continue
            here = given[rows] == label
            mine = probs[:, here][refinement.leaves[label]]
            mine = mine / np.maximum(mine.max(0), np.finfo(np.float32).tiny)  # the label may be all but excluded here
            share = refinement.groups[label][:, refinement.leaves[label]] @ mine / np.maximum(mine.sum(0), 1e-6)
            best = share.argmax(0)
            fine[rows][here] = np.array(refinement.choices[label], np.int16)[best]
            sure[rows][here] = np.minimum(share[best, np.arange(len(best))], 1.0)
    return fine, sure


@dataclass
class Curve:
    """(2, BINS + 1) int64 pixels by confidence, wrong and right fine labels; `choice` counts where there was a choice.

    `labels` (fine labels, 3) int64: a true label's pixels, those that got a fine label, those that got the right one.
    """

    space: LabelSpace
    confidence: float
    everything: np.ndarray = field(default_factory=lambda: np.zeros((2, BINS + 1), np.int64))
    choice: np.ndarray = field(default_factory=lambda: np.zeros((2, BINS + 1), np.int64))
    labels: np.ndarray = field(init=False)

    def __post_init__(self):
        self.labels = np.zeros((len(self.space.labels), 3), np.int64)

    def add(self, fine: np.ndarray, sure: np.ndarray, true: np.ndarray, real: np.ndarray) -> None:
        """Count one image; `true` (H, W) fine positions, -1 unknown; `real` (H, W) bool where there was a choice."""
        dared = (true >= 0) & (fine >= 0) & (sure >= self.confidence)
        for column, part in enumerate((true >= 0, dared, dared & (fine == true))):
            self.labels[:, column] += np.bincount(true[part], minlength=len(self.labels))
        for counts, among in ((self.everything, true >= 0), (self.choice, (true >= 0) & real)):
            known = among & (fine >= 0)
            flat = (fine == true)[known] * (BINS + 1) + np.floor(sure[known] * BINS).astype(np.int64)
            counts += np.bincount(flat, minlength=counts.size).reshape(counts.shape)

    def table(self) -> str:
        """Coverage and share of right pixels at each threshold."""
        lines = ["confidence    all: covered    right    with a choice: covered    right"]
        for p in THRESHOLDS:
            cells = []
            for counts in (self.everything, self.choice):
                dared = counts[:, int(np.ceil(p * BINS - 1e-9)) :]
                right = f"{dared[1].sum() / dared.sum():8.2%}" if dared.sum() else "     n/a"
                cells.append(f"{dared.sum() / max(counts.sum(), 1):8.2%} {right}")
            lines.append(f"{p:10.2f}    {cells[0]:>20} {cells[1]:>33}")
        lines.append(f"at {self.confidence:g}, by true label:          pixels  covered    right")
        for label, (pixels, dared, right) in zip(self.space.labels, self.labels.tolist(), strict=True):
            if pixels:
                share = f"{right / dared:8.1%}" if dared else "     n/a"
                lines.append(f"  {label.name:<24}{pixels:>14} {dared / pixels:8.1%} {share}")
        return "\n".join(lines)


def combined_space(
    coarse: LabelSpace, fine: LabelSpace, refinement: Refinement, name: str, taxonomy: str
) -> tuple[str, np.ndarray]:
    """The new label space: the fine labels with their ids, then the coarse ones that pixels may keep, not scored.

    Returns its text and (coarse + 1,) int64 ids of pixels that keep their coarse label; for those that cannot, and for
    unlabelled ones, the last, it is an ignored id.
    """
    tree = fine.taxonomy
    nodes = [tuple(tree.names[n] for n in tree.cover(label.leaves)) if label.leaves else () for label in fine.labels]
    entries = [Entry(b.id, b.name, n, b.color, b.evaluate) for b, n in zip(fine.labels, nodes, strict=True)]
    ids, names = {b.id for b in fine.labels}, {b.name for b in fine.labels}
    void = next((b.id for b in fine.labels if not b.leaves), None)
    following = max(ids) + 1
    if void is None:
        void, following = following, following + 1
        entries.append(Entry(void, "unlabelled" if "unlabelled" not in names else f"unlabelled ({coarse.name})"))
    whole = {b.leaves: b.id for b in fine.labels if b.leaves}
    kept = np.full(len(coarse.labels), void, np.int64)
    for i, label in enumerate(coarse.labels):
        if label.leaves in whole:
            kept[i] = whole[label.leaves]
        elif label.leaves and refinement.keeps[i]:
            kept[i], following = following, following + 1
            covered = tuple(tree.names[n] for n in tree.cover(label.leaves))
            entries.append(Entry(int(kept[i]), f"{label.name} ({coarse.name})", covered, label.color, False))
    head = [f"{coarse.name} refined to {fine.name}; labels of {coarse.name} stand where the network was not sure."]
    return space_yaml(name, taxonomy, entries, head), np.append(kept, void)


def _given(item: Item, space: LabelSpace) -> tuple[np.ndarray, np.ndarray]:
    """Image and (H, W) int16 label positions of a dense item."""
    if item.mask is None:
        raise HeterosegError(f"{item.image}: has no mask; only datasets of masks can be relabelled")
    sample = read_sample(item)
    assert sample.mask is not None
    return sample.image, to_label_indices(sample.mask, space, str(item.mask))


def relabel(
    model: Model,
    sources: Sequence[Source],
    dataset: str,
    fine: LabelSpace,
    confidence: float,
    out: Path,
    truth: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Curve | None:
    """Write a dataset for the reader `folder`: images/ and masks/ by split, label_space.yaml and relabel.json in OUT.

    `truth` names a dataset of the experiment that has images of the same names labelled in the fine space; the returned
    curve compares with it. A folder that is not empty raises HeterosegError.
    """
    source = source_named(sources, dataset)
    coarse = source.space
    require_tree_of(model, source, "relabel with")
    refinement = refine(coarse, fine)
    require_empty(out)
    taxonomy = taxonomy_reference(fine.taxonomy)
    name = f"{dataset}-{fine.name}"
    text, kept = combined_space(coarse, fine, refinement, name, taxonomy)
    checked_space(text, out / "label_space.yaml", fine.taxonomy)
    true_items = _truth_items(sources, truth, fine)
    if taxonomy == "taxonomy.yaml":
        write_taxonomy(fine.taxonomy, out / taxonomy)
    write_text(out / "label_space.yaml", text)
    curve = Curve(fine, confidence) if truth else None
    real = np.array([len(c) > 1 for c in refinement.choices] + [False])
    counts = np.zeros((len(coarse.labels), 2), np.int64)
    for split, items in ((source.config.train, source.train), (source.config.val, source.val)):
        for item in items:
            image, given = _given(item, coarse)
            found, sure = refined(model.predict(image), given, refinement)
            dare = (found >= 0) & (sure >= confidence)
            chosen = np.where(dare, fine.ids[found], kept[given])
            known = given >= 0
            for column, part in enumerate((known & ~dare, known & dare)):
                counts[:, column] += np.bincount(given[part], minlength=len(counts))
            stem = str(split)
            with written(out / "masks" / stem / f"{item.name}.png") as temporary:
                write_ids(temporary, chosen)
            with written(out / "images" / stem / f"{item.name}{item.image.suffix}") as temporary:
                shutil.copyfile(item.image, temporary)
            if curve is not None and item.name in true_items:
                _, true = _given(true_items[item.name], fine)
                if true.shape != given.shape:
                    raise HeterosegError(
                        f"{true_items[item.name].mask}: expected the size of {item.mask}, {given.shape}, found "
                        f"{true.shape}; --truth needs the same images"
                    )
                scored = np.where((true >= 0) & (given >= 0), true, -1)
                curve.add(found, sure, scored, real[given])
        if items:
            say(f"{dataset} {split}: {len(items)} images")
    rows = {
        label.name: {"kept": int(row[0]), "refined": int(row[1])}
        for label, row in zip(coarse.labels, counts, strict=True)
        if label.leaves
    }
    write_json(
        out / "relabel.json",
        {
            "dataset": dataset,
            "labels": fine.name,
            "confidence": confidence,
            "model": model.name,
            "model_digest": model.digest,
            "pixels": rows,
        },
    )
    return curve


def _truth_items(sources: Sequence[Source], truth: str | None, fine: LabelSpace) -> dict[str, Item]:
    if truth is None:
        return {}
    source = source_named(sources, truth)
    if source.space.file.labels != fine.file.labels:
        raise HeterosegError(
            f"--truth {truth}: its labels are those of {source.space.name!r}, expected those of {fine.name!r}"
        )
    return {item.name: item for item in [*source.train, *source.val]}


def experiment_part(source: Source, out: Path) -> str:
    """The lines of an experiment that train on what was written."""
    splits = f"train: {source.config.train or 'null'}, val: {source.config.val or 'null'}"
    place = out.resolve()
    return (
        f"  {source.name}-refined:\n    {{root: {place}, reader: folder, label_space: {place / 'label_space.yaml'},\n"
        f"     {splits}, options: {{images: 'images/{{split}}/{{name}}.*', masks: 'masks/{{split}}/{{name}}.png'}}}}"
    )
