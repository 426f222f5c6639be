"""Every image and label of an experiment read once, and counted."""

from collections.abc import Callable
from pathlib import Path

from heteroseg.curation.audit import count_split
from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import Experiment
from heteroseg.experiment.sources import Source, open_sources

MOST_FAULTS = 20  # told per dataset


def _check_split(source: Source, split: str, say: Callable[[str], None]) -> list[str]:
    counts = count_split(source, split)
    labelled, boxes = counts.pixels.sum(), counts.boxes.sum()
    say(f"{source.name} {split}: {counts.total} images, {labelled} labelled pixels{f', {boxes} boxes' * bool(boxes)}")
    for i, label in enumerate(source.space.labels):
        if label.leaves:
            share = counts.pixels[i] / max(labelled, 1)
            say(f"  {label.id:6d}  {label.name:<28} {counts.pixels[i]:>12}  {share:8.3%}  in {counts.images[i]} images")
    faults = list(counts.faults)
    if len(faults) > MOST_FAULTS:
        faults = [*faults[:MOST_FAULTS], f"{source.name} {split}: {len(faults) - MOST_FAULTS} more faults like these"]
    return faults


def check_data(experiment: Experiment, folder: Path, say: Callable[[str], None]) -> None:
    """Decode every image and annotation of an experiment and print how often each label occurs.

    Raises HeterosegError with all faults: files that cannot be read, ids outside the label space, bad boxes.
    """
    faults = []
    for source in open_sources(experiment, folder):
        for split, items in (("train", source.train), ("val", source.val)):
            if items:
                faults.extend(_check_split(source, split, say))
    if faults:
        raise HeterosegError(*faults)
    say("all sound")
