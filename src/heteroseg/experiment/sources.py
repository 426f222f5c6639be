"""What an experiment names: its taxonomy, its label spaces, its datasets on disk."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from heteroseg.datasets import list_items, read_image
from heteroseg.datasets.class_names import plain
from heteroseg.datasets.sample import Item, Listing
from heteroseg.errors import HeterosegError, counted, listed, nearest, raise_faults
from heteroseg.experiment.config import DatasetConfig, Experiment, dataset_root
from heteroseg.labels.space import LabelSpace, hold_out, load_label_space
from heteroseg.labels.taxonomy import Taxonomy, load_taxonomy
from heteroseg.writing import rewrite

SHOWN = 3  # of what is told with a count
MOST_TARGETS = 2**15 - 1  # running numbers of labels are int16


@dataclass
class Source:
    """One dataset of an experiment, found on disk and tied to the taxonomy."""

    name: str
    config: DatasetConfig
    space: LabelSpace
    train: list[Item]
    val: list[Item]
    root: Path = Path()
    notes: list[str] = field(default_factory=list)  # what to warn of
    skipped: list[str] = field(default_factory=list)  # faulty annotations that were left out


def open_spaces(experiment: Experiment, folder: Path) -> tuple[Taxonomy, list[LabelSpace]]:
    """The taxonomy and the label space of each dataset; all faults of all files are raised together."""
    tree = load_taxonomy(experiment.taxonomy, folder, experiment.model.void)
    if unknown := [n for n in experiment.hold_out if n not in tree]:
        told = "is no node of taxonomy"
        raise HeterosegError(*(f"hold_out: {n!r} {told} {tree.name!r}{nearest(n, tree.names)}" for n in unknown))
    spaces, faults = list[LabelSpace](), list[str]()
    by_name: dict[str, LabelSpace] = {}
    for name, config in experiment.datasets.items():
        try:
            space = load_label_space(config.label_space, tree, folder)
            if by_name.setdefault(space.name, space).file != space.file:
                told = f"expected a name of its own for each label space, found two called {space.name!r}; rename one"
                faults.append(f"datasets.{name}: {config.label_space}: {told}, as a model keeps them by name")
            spaces.append(hold_out(space, experiment.hold_out))
        except HeterosegError as error:
            faults.extend(error.faults)
    count = sum(space.targets for space in spaces)
    if count > MOST_TARGETS:
        told = f"expected at most {MOST_TARGETS} labels together, found {count}; train on fewer datasets"
        faults.append(f"datasets: {told}")
    raise_faults(faults)
    return tree, spaces


def open_sources(experiment: Experiment, folder: Path, splits: Sequence[str] = ("train", "val")) -> list[Source]:
    """List the images of every dataset of an experiment; nothing is decoded yet."""
    _, spaces = open_spaces(experiment, folder)
    sources: list[Source] = []
    faults: list[str] = []
    for (name, config), space in zip(experiment.datasets.items(), spaces, strict=True):
        root = dataset_root(experiment, config, folder)
        source = Source(name, config, space, [], [], root)
        for part in splits:
            split = getattr(config, part)
            try:
                listing = list_items(config.reader, root, split, config.options) if split else Listing()
                renamed = _renamed(listing.names, space)
            except HeterosegError as error:
                faults.extend(f"datasets.{name}: {fault}" for fault in error.faults)
                continue
            setattr(source, part, list(listing))
            source.notes += [f"{name} {part}: {note}" for note in (*listing.notes, *renamed)]
            source.skipped += [f"{name}: {fault}" for fault in listing.faults]
        if source.skipped:
            source.skipped = list(dict.fromkeys(source.skipped))  # both splits may be in one file
            told = f"told in {counted(len(source.skipped), 'sentence')}, such as: {source.skipped[0]}"
            source.notes.append(f"{name}: faulty annotation is left out (skip_faulty), {told}")
        sources.append(source)
    raise_faults(dict.fromkeys(faults))
    return sources


def _renamed(names: Mapping[int, str], space: LabelSpace) -> list[str]:
    """A note of the ids that the files and the label space call otherwise.

    A name that the label space gives another id raises HeterosegError.
    """
    ours = {label.id: label.name for label in space.labels}
    id_of = {plain(name): i for i, name in ours.items()}
    other = [(i, name) for i, name in names.items() if i in ours and plain(name) != plain(ours[i])]
    for i, name in other:
        if plain(name) in id_of:
            told = f"expected ids as label space {space.name!r} has them, found {i} for {name!r} in the annotation"
            there = f"which is {id_of[plain(name)]} there, and {i} is {ours[i]!r}"
            raise HeterosegError(f"{told}, {there}; correct the ids or names of the label space")
    pairs = listed((f"{i} is {name!r} and {ours[i]!r}" for i, name in other), SHOWN)
    return [f"the annotation and label space {space.name!r} name ids differently: {pairs}"] if other else []


def overlaps(sources: Sequence[Source], content: bool = False) -> list[str]:
    """A sentence for each dataset of which val images are train images too: the same files, or, with `content`, also
    others of the same bytes, but for images of one colour, of which nothing can be learnt by heart."""
    trained = [(source.name, item.image) for source in sources for item in source.train]
    content_of = _contents([i.image for s in sources for i in (*s.train, *s.val)]) if content else _file
    by_file = {_file(image): (name, image) for name, image in trained}
    by_content = {content_of(image): (name, image) for name, image in trained}
    told = []
    for source in sources:
        both = []
        for image in (item.image for item in source.val):
            twin = by_file.get(_file(image)) or by_content.get(content_of(image))
            if twin and (_file(image) in by_file or not _is_blank(image)):
                both.append((image, *twin))
        if both:
            image, name, other = both[0]
            fault = f"expected val images that are not trained on, found {len(both)} that are, such as {image}"
            told.append(f"datasets.{source.name}: {fault}, which is {other} in train of {name}")
    return told


def require_apart(sources: Sequence[Source], allow_overlap: bool, content: bool = False) -> list[str]:
    """HeterosegError where there are `overlaps`; with `allow_overlap` these are warnings, which are returned."""
    same = overlaps(sources, content)
    if not allow_overlap:
        raise_faults(f"{overlap}; take them out of one split, or say --allow-overlap" for overlap in same)
    return same


def _is_blank(path: Path) -> bool:
    with suppress(HeterosegError):
        image = read_image(path)
        return bool((image == image[:1, :1]).all())
    return False


def _file(path: Path) -> object:
    """What all names of a file have in common."""
    with suppress(OSError):
        known = path.stat()
        return known.st_dev, known.st_ino
    return path


def _contents(paths: Sequence[Path]) -> Callable[[Path], object]:
    """What gives files of the same bytes the same key. Only files of one length are read."""
    sizes = {path: path.stat().st_size for path in paths if path.is_file()}  # others are told where they are read
    several = {size for size, count in Counter(sizes.values()).items() if count > 1}

    @cache
    def key(path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest() if sizes.get(path) in several else str(path)

    return key


def write_skipped(sources: Sequence[Source], path: Path) -> None:
    """Write what the option skip_faulty left out, a fault a line."""
    rewrite(path, "".join(f"{line}\n" for source in sources for line in source.skipped))


def source_named(sources: Sequence[Source], name: str) -> Source:
    """The dataset of that name; an unknown one raises with the nearest."""
    by_name = {s.name: s for s in sources}
    if name not in by_name:
        near = nearest(name, by_name)
        raise HeterosegError(f"the experiment has no dataset {name!r}{near}; it has {', '.join(by_name)}")
    return by_name[name]
