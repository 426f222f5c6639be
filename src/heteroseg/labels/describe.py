"""What a taxonomy or a label space holds, as plain text: checked, and shown whole."""

from collections.abc import Iterator

from heteroseg.errors import HeterosegError
from heteroseg.labels.space import LabelSpace, load_label_space
from heteroseg.labels.taxonomy import Taxonomy, find_spec, load_taxonomy, shipped_specs


def _load_spec(name: str) -> Taxonomy | LabelSpace:
    """A taxonomy or a label space, by what the file holds; for a plain name, whichever is shipped."""
    kind = "label_spaces" if name in shipped_specs("label_spaces") else "taxonomies"
    data = find_spec(kind, name).data
    keys = set(data) if isinstance(data, dict) else set()
    if "labels" in keys:
        return load_label_space(name)
    if "tree" in keys:
        return load_taxonomy(name)
    raise HeterosegError(f"{name}: expected a taxonomy (key 'tree') or a label space (key 'labels'), found neither")


def check_spec_file(name: str) -> str:
    """`spec_line` of a file; faults raise HeterosegError."""
    return spec_line(name, _load_spec(name))


def spec_line(name: str, spec: Taxonomy | LabelSpace) -> str:
    """One line that says what a sound file holds, and notes on what it leaves open."""
    if isinstance(spec, Taxonomy):
        sizes = f"{len(spec.leaves)} leaves, {len(spec.classifiers)} classifiers, {spec.channels} logits"
        return f"{name}: taxonomy {spec.name!r}, {sizes}"
    mapped = int((~spec.ignored).sum())
    unions = sum(len(spec.taxonomy.cover(label.leaves)) > 1 for label in spec.labels)
    kinds = f"{mapped} mapped, {unions} unions, {len(spec.labels) - mapped} ignored"
    head = f"{name}: label space {spec.name!r} of taxonomy {spec.taxonomy.name!r}, {len(spec.labels)} labels ({kinds})"
    return "\n".join([head, *_undeclared(spec)])


def _undeclared(space: LabelSpace) -> Iterator[str]:
    """A note for each label that may also be what others say, where the space does not tell if these are complete."""
    evaluated = [label for label, counts in zip(space.labels, space.evaluated, strict=True) if counts]
    for i, label in enumerate(space.labels):
        if not space.evaluated[i] or len(label.leaves) == 1:
            continue
        told_apart = label.leaves - space.training_leaves(i)
        narrower = [b for b in evaluated if b.leaves < label.leaves and b.leaves.isdisjoint(told_apart)]
        names = [space.taxonomy.names[n] for b in narrower for n in space.taxonomy.cover(b.leaves)]
        if names and space.file.coverage.keys().isdisjoint(names):
            coverage = ", ".join(f"{name}: complete" for name in names[:3]) + (", ..." if names[3:] else "")
            others = f"{narrower[0].name!r}{' and others' if narrower[1:] else ''}"
            told = f"if these are labelled wherever they occur, add 'coverage: {{{coverage}}}'"
            yield f"  note: training takes {label.name!r} for all that may also be {others}; {told}"


def show_spec_file(name: str) -> str:
    """The tree, one node a line with its logit, or the labels with the nodes that they cover."""
    spec = _load_spec(name)
    lines = [spec_line(name, spec), ""]
    if isinstance(spec, Taxonomy):
        for n, node in enumerate(spec.names):
            owns = spec.classifier_of[n]
            logit = f"  [{spec.channel_of[n]}]" if spec.channel_of[n] >= 0 else ""
            count = f"  classifier {owns}: {len(spec.children[n])} classes" if owns >= 0 else ""
            lines.append(f"{'  ' * spec.depths[n]}{node}{logit}{count}")
        return "\n".join(lines)
    width = max(len(label.name) for label in spec.labels)
    for label in spec.labels:
        nodes = " + ".join(spec.taxonomy.names[n] for n in spec.taxonomy.cover(label.leaves)) or "(ignored)"
        note = "" if label.evaluate or not label.leaves else "  (not evaluated)"
        lines.append(f"{label.id:6d}  {label.name:<{width}}  {nodes}{note}")
    return "\n".join(lines)
