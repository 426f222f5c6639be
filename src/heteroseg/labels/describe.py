"""What a taxonomy or a label space holds, as plain text: checked, and shown whole."""

import numpy as np

from heteroseg.errors import HeterosegError
from heteroseg.labels.space import LabelSpace, load_label_space
from heteroseg.labels.taxonomy import Taxonomy, find_spec, load_taxonomy


def _load_spec(name: str) -> Taxonomy | LabelSpace:
    """A taxonomy or a label space, by what the file holds; for a plain name, whichever is shipped."""
    if not name.endswith((".yaml", ".yml")):
        try:
            return load_taxonomy(name)
        except HeterosegError as error:
            try:
                return load_label_space(name)
            except HeterosegError as second:
                raise HeterosegError(*(error.faults if "no shipped file" in str(second) else second.faults)) from None
    document = find_spec("taxonomies", name)
    keys = set(document.data) if isinstance(document.data, dict) else set()
    if "labels" in keys:
        return load_label_space(name)
    if "tree" in keys:
        return load_taxonomy(name)
    raise HeterosegError(f"{name}: expected a taxonomy (key 'tree') or a label space (key 'labels'), found neither")


def check_spec_file(name: str) -> str:
    """One line that says what a sound file holds, and notes on what it leaves open; faults raise HeterosegError."""
    spec = _load_spec(name)
    if isinstance(spec, Taxonomy):
        sizes = f"{len(spec.leaves)} leaves, {len(spec.classifiers)} classifiers, {spec.channels} logits"
        return f"{name}: taxonomy {spec.name!r}, {sizes}"
    mapped = int((~spec.ignored).sum())
    unions = sum(len(spec.taxonomy.cover(label.leaves)) > 1 for label in spec.labels)
    head = (
        f"{name}: label space {spec.name!r} of taxonomy {spec.taxonomy.name!r}, {len(spec.labels)} labels "
        f"({mapped} mapped, {unions} unions, {len(spec.labels) - mapped} ignored)"
    )
    return "\n".join([head, *_undeclared(spec)])


def _undeclared(space: LabelSpace) -> list[str]:
    """A note for each label that may also be what others say, where the space does not tell if these are complete."""
    evaluated = np.flatnonzero(space.evaluated)
    sizes = space.meaning_table.sum(1)[evaluated]
    first_leaves = space.meaning_table[evaluated].argmax(1)
    nodes = {i: [space.taxonomy.names[n] for n in space.taxonomy.cover(space.labels[i].leaves)] for i in evaluated}
    notes = []
    for i, size in zip(evaluated, sizes, strict=True):
        narrower = evaluated[space.meaning_table[i, first_leaves] & (sizes < size)]  # labels are disjoint or nested
        told_apart = space.meaning_table[i] & ~space.training_table[i]
        if told_apart.any():
            narrower = narrower[~(space.meaning_table[narrower] & told_apart).any(1)]
        names = [node for b in narrower for node in nodes[b]]
        if names and not any(name in space.file.coverage for name in names):
            coverage = ", ".join(f"{name}: complete" for name in names[:3]) + (", ..." if names[3:] else "")
            notes.append(
                f"  note: training takes {space.labels[i].name!r} for all that may also be "
                f"{space.labels[narrower[0]].name!r}{' and others' if len(narrower) > 1 else ''}; "
                f"if these are labelled wherever they occur, add 'coverage: {{{coverage}}}'"
            )
    return notes


def show_spec_file(name: str) -> str:
    """The tree, one node a line with its logit, or the labels with the nodes that they cover."""
    spec = _load_spec(name)
    lines = [check_spec_file(name), ""]
    if isinstance(spec, Taxonomy):
        for n, node in enumerate(spec.names):
            owns = spec.classifier_of[n]
            logit = f"  [{spec.channel_of[n]}]" if spec.channel_of[n] >= 0 else ""
            count = f"  classifier {owns}: {len(spec.children[n])} classes" if owns >= 0 else ""
            lines.append(f"{'  ' * spec.depth(n)}{node}{logit}{count}")
        return "\n".join(lines)
    width = max(len(label.name) for label in spec.labels)
    for label in spec.labels:
        nodes = " + ".join(spec.taxonomy.names[n] for n in spec.taxonomy.cover(label.leaves)) or "(ignored)"
        note = "" if label.evaluate or not label.leaves else "  (not evaluated)"
        lines.append(f"{label.id:6d}  {label.name:<{width}}  {nodes}{note}")
    return "\n".join(lines)
