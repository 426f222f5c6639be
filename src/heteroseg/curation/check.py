"""Every image and label of an experiment read once, and counted; what looks wrong is told."""

from collections.abc import Callable, Iterator, Sequence

from heteroseg.datasets.paths import IMAGE_SUFFIXES, grouped, walk
from heteroseg.errors import HeterosegError, counted, raise_faults
from heteroseg.experiment.sources import Source, require_apart
from heteroseg.labels.space import LabelSpace
from heteroseg.supervision.coverage import Counts, count_split, ignored, untaught


def _table(space: LabelSpace, counts: Counts) -> Iterator[str]:
    """A line for each label that means something, under a line of headings."""
    width = max(len(label.name) for label in space.labels)
    marks = {kind: n for kind, n in (("boxes", counts.boxes), ("tags", counts.tags)) if n.any()}
    more = "".join(f"  {kind:>7}" for kind in marks)
    yield f"  {'id':>6}  {'label':<{width}}  {'pixels':>12}  {'share':>8}  {'images':>7}{more}"
    for i, label in enumerate(space.labels):
        if label.leaves:
            pixels, share = counts.pixels[i], counts.pixels[i] / max(counts.labelled, 1)
            line = f"  {label.id:6d}  {label.name:<{width}}  {pixels:>12}  {share:>8.3%}  {counts.images[i]:>7}"
            yield line + "".join(f"  {n[i]:>7}" for n in marks.values())


def _check_split(source: Source, split: str, counts: Counts, log: Callable[[str], None]) -> list[str]:
    """Print the counts of a split; returns its first faults."""
    name, images = f"{source.name} {split}", counted(counts.total, "image")
    marks = {"box": counts.boxes.sum(), "tag": counts.tags.sum()}
    told = [images, counted(counts.labelled, "labelled pixel"), *(counted(n, kind) for kind, n in marks.items() if n)]
    log(f"{name}: {', '.join(told)}")
    for line in _table(source.space, counts):
        log(line)
    for note, number in counts.notes.items():
        log(f"warning: {name}: {counted(number, 'image')} {note}")
    so = "nothing teaches what they are" if split == "train" else "no score tells how they are answered"
    for note in ignored(name, counts.silent, counts.masked, so=so):
        log(f"warning: {note}")
    faults = grouped(name, counts.faults)
    if not counts.faults and not counts.occurring.any():
        taught = "a labelled pixel, box or tag"
        faults.append(f"{name}: expected {taught}, found none in {images}; check the label space's ids")
    return faults


def _unused(sources: Sequence[Source]) -> Iterator[str]:
    """A note of the image files in each dataset's folder that no split of any dataset uses."""
    items = [item for source in sources for item in (*source.train, *source.val)]
    used = {path for item in items for path in (item.image, item.mask, item.scoring_mask)}
    for source in sources:
        spare = sorted(path for path in walk(source.root, IMAGE_SUFFIXES) if path not in used)
        if spare:
            told = f"{source.name}: {counted(len(spare), 'image file')} in {source.root} of neither split"
            yield f"{told}, such as {spare[0]}"


def check_data(sources: Sequence[Source], log: Callable[[str], None], allow_overlap: bool = False) -> None:
    """Decode every image and annotation, and print how often each label occurs, and warnings (but for the notes of the
    sources, which are known before).

    Raises HeterosegError with all faults: files that cannot be read, ids outside the label space, bad boxes, splits
    without any label, and val images that are train images too, unless `allow_overlap`.
    """
    faults, counts = [], {}
    for source in sources:
        for split in ("train", "val"):
            if getattr(source, split):
                counts[source.name, split] = count_split(source, split)
                faults += _check_split(source, split, counts[source.name, split], log)
    trained = [(source, counts[source.name, "train"]) for source in sources if source.train]
    for note in [] if any(c.faults for _, c in trained) else untaught(trained):  # what is faulty may hold what lacks
        log(f"warning: {note}")
    for note in _unused(sources):
        log(note)
    same = []
    try:
        same = require_apart(sources, allow_overlap, content=True)
    except HeterosegError as error:
        faults += error.faults
    for overlap in same:
        log(f"warning: {overlap}")
    raise_faults(faults)
    log("all sound")
