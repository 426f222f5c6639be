"""Mixed batches: a fixed share of each dataset in every batch, the same for any number of workers and after a resume.

The whole run is one numbered list of draws. Draw i belongs to batch i // batch; which image it shows, and how that is
cropped and changed, follows from the seed and i alone.
"""

import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.queues import Queue
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from heteroseg.datasets import read_annotation, read_sample
from heteroseg.datasets.sample import Item, no_ids
from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import AugmentConfig, Experiment
from heteroseg.experiment.sources import Source
from heteroseg.supervision.targets import Mixture, Mixtures, encode, offsets, pad_mixtures
from heteroseg.training.augment import augment, degrade, point_of, turned
from heteroseg.training.paste import Pasting, images_named

AHEAD = 4  # batches that each worker holds ready
PATIENCE = 1800  # seconds to wait for a batch: a worker that gives none then hangs
SHARED = Path("/dev/shm")  # where workers put batches on Linux


class Batch(NamedTuple):
    """`images` (B, 3, H, W) uint8; `mask` and `boxes` (B, H, W) int16 running label numbers, -1 unknown; file names.

    Values from MIXED down in `boxes` stand for `mixtures`.
    """

    images: Tensor
    mask: Tensor
    boxes: Tensor
    names: list[str]
    mixtures: Mixtures


def images_per_dataset(sources: Sequence[Source], batch: int) -> list[int]:
    """Images of each dataset in a batch of this size: proportional to the shares, at least one each."""
    shares = np.array([s.config.share if s.train else 0.0 for s in sources])
    if batch < (shares > 0).sum():
        raise HeterosegError(
            f"train.batch: {batch} images cannot hold one of each of the {int((shares > 0).sum())} training datasets; "
            "raise it, or take datasets out of training with train: null"
        )
    result = (shares > 0).astype(int)
    while result.sum() < batch:  # give the next place to whoever is furthest below its share
        result[np.argmax(shares / shares.sum() * batch - result)] += 1
    return result.tolist()


def images_of_labels(source: Source, masks: bool = True) -> dict[int, np.ndarray]:
    """For each native id that is trained and occurs, the indices in `source.train` of the images that hold it.

    Masks are decoded for it, photographs are not; without `masks` only boxes count.
    """

    def ids_in(item: Item) -> list[int]:
        mask = read_annotation(item).mask if masks and item.mask is not None else None
        return np.union1d(item.box_ids, no_ids() if mask is None else mask).tolist()

    images: dict[int, list[int]] = {i: [] for i in source.space.ids[~source.space.ignored].tolist()}
    with ThreadPoolExecutor() as pool:  # decoding leaves Python's lock alone
        for index, ids in enumerate(pool.map(ids_in, source.train)):
            for i in images.keys() & ids:
                images[i].append(index)
    return {i: np.array(indices) for i, indices in images.items() if indices}


def _things(source: Source, images_of: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """The images of each native id that is pasted: what `paste_of` names, else what is boxed."""
    if not (source.config.paste and source.train):
        return {}
    if not source.config.paste_of:
        return images_of_labels(source, masks=False)
    return images_named(source, images_of or images_of_labels(source))


class TrainingDraws(Dataset):
    """The numbered draws of a run; see the module's docstring."""

    def __init__(
        self,
        sources: Sequence[Source],
        batch: int,
        crop: tuple[int, int],
        color: float,
        seed: int,
        how: AugmentConfig | None = None,
    ):
        self.sources, self.batch, self.crop, self.color, self.seed = sources, batch, crop, color, seed
        self.how = how or AugmentConfig()
        self.counts = images_per_dataset(sources, batch)
        self.owner = np.repeat(np.arange(len(sources)), self.counts)  # dataset of each place in a batch
        self.rank = np.concatenate([np.arange(n) for n in self.counts])  # how many of its dataset stand before it
        self.offsets = offsets([s.space for s in sources])
        self._orders: dict[int, tuple[int, np.ndarray]] = {}  # of each dataset, the round and its order
        self.images_of = [images_of_labels(s) if s.config.rare and s.train else {} for s in sources]
        things = [_things(s, images) for s, images in zip(sources, self.images_of, strict=True)]
        self.pasting = Pasting(sources, things, self.offsets, crop, color)

    def item(self, index: int) -> tuple[int, Item, int | None]:
        """Dataset number and item of a draw, and the native id that it is to show, None for any.

        Each dataset is gone through in a new random order every time round; `rare` draws pick a label first.
        """
        step, place = divmod(index, self.batch)
        owner = int(self.owner[place])
        items = self.sources[owner].train
        rng = np.random.default_rng([self.seed, 2_000_003, index])
        if rng.random() < self.sources[owner].config.rare and self.images_of[owner]:
            label = int(rng.choice(list(self.images_of[owner])))
            return owner, items[rng.choice(self.images_of[owner][label])], label
        round_, position = divmod(step * self.counts[owner] + int(self.rank[place]), len(items))
        return owner, items[self._order(owner, round_)[position]], None

    def _order(self, owner: int, round_: int) -> np.ndarray:
        """(images,) the order in which a dataset is gone through in a round; made once, as draws go on in order."""
        if self._orders.get(owner, (-1,))[0] != round_:
            rng = np.random.default_rng([self.seed, owner, round_])
            self._orders[owner] = round_, rng.permutation(len(self.sources[owner].train))
        return self._orders[owner][1]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor, str, tuple[Mixture, ...]] | HeterosegError:
        """One augmented image and its label maps; a fault is returned, so that a worker can hand it on as it is."""
        try:
            owner, item, label = self.item(index)
            source = self.sources[owner]
            rng = np.random.default_rng([self.seed, 1_000_003, index])
            sample = read_sample(item)
            near = None if label is None else point_of(sample, label, rng)
            options = source.config.model_dump(include={"scale", "flip", "focus"})
            limit = self.how.rotate
            degrees = rng.uniform(-limit, limit) if limit and rng.random() < self.how.chance else 0.0
            view = augment(sample, self.crop, rng, color=self.color, near=near, degrees=degrees, **options)
            target = encode(view, source.space, self.offsets[owner])
            self.pasting.lay(view, target, rng)
        except HeterosegError as error:
            return error
        maps = view.image, target.mask, target.boxes
        pixels, mask, boxes = (turned(each, degrees, self.crop) for each in maps) if degrees else maps
        image = torch.from_numpy(degrade(pixels, self.how, rng).transpose(2, 0, 1).copy())
        return image, torch.from_numpy(mask), torch.from_numpy(boxes), str(item.image), target.mixtures


def collate(samples: list) -> Batch | HeterosegError:
    """Stack draws to a batch; the first fault among them takes its place."""
    if faults := [s for s in samples if isinstance(s, HeterosegError)]:
        return faults[0]
    images, masks, boxes, names, mixtures = zip(*samples, strict=True)
    return Batch(torch.stack(images), torch.stack(masks), torch.stack(boxes), list(names), pad_mixtures(mixtures))


def batches(loader: DataLoader) -> Iterator[Batch]:
    """The loader's batches; a fault that a worker met is raised here."""
    for batch in loader:
        if isinstance(batch, HeterosegError):
            raise batch
        yield batch


def _require_effect(draws: TrainingDraws) -> None:
    """Raise HeterosegError where a dataset cannot give the crops that its `rare`, `focus` or `paste` asks for."""
    faults = []
    for source, images, things in zip(draws.sources, draws.images_of, draws.pasting.images, strict=True):
        boxed = any(len(item.boxes) for item in source.train)
        no_thing = "has boxes, and paste_of names no labels of masks"
        rules = (("rare", images, "holds a label that is trained"), ("focus", boxed, "has boxes"))
        for option, given, lack in (*rules, ("paste", things, no_thing)):
            if getattr(source.config, option) and source.train and not given:
                place = f"datasets.{source.name}.{option}"
                faults.append(f"{place} has no effect, no training image {lack}; leave it out")
    if faults:
        raise HeterosegError(*faults)


def _end_worker(*_: object) -> None:
    """A batch that found no room in SHARED would be waited for: end as where the system finds that out."""
    os.kill(os.getpid(), signal.SIGBUS)


def _prepare_worker(_: int) -> None:
    signal.signal(signal.SIGBUS, signal.SIG_DFL)
    Queue._on_queue_feeder_error = staticmethod(_end_worker)  # type: ignore[attr-defined]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process ends the others
    sys.excepthook = lambda *_: None  # what threads meet when that one is gone; faults of images are handed on
    cv2.setNumThreads(0)  # workers are the parallelism
    torch.set_num_threads(1)


def _require_shared_memory(size: int, workers: int) -> None:
    """HeterosegError where the batches of `size` bytes that workers hold ready do not fit: they would die of it."""
    needed = size * (workers * AHEAD + 1)
    if SHARED.is_dir() and (free := shutil.disk_usage(SHARED).free) < needed:
        raise HeterosegError(
            f"train.workers: expected {needed / 2**20:.1f} MB free in {SHARED} for {workers} processes, found "
            f"{free / 2**20:.1f}; give a container more (docker run --shm-size=2g), or set train.workers=0"
        )


def training_loader(
    experiment: Experiment, sources: Sequence[Source], first: int = 0, rank: int = 0, world: int = 1, pin: bool = False
) -> DataLoader:
    """Batches of steps `first` to the end for process `rank` of `world`; `pin` is for GPUs.

    A batch that cannot be shared, and `rare`, `focus` or `paste` without effect in a new run, raise HeterosegError.
    """
    t = experiment.train
    if t.batch % world:
        raise HeterosegError(f"train.batch: expected a multiple of the {world} processes, found {t.batch}")
    draws = TrainingDraws(sources, t.batch, t.crop, t.color, t.seed, experiment.augment)
    if first == 0:
        _require_effect(draws)
    batch = t.batch // world
    if t.workers:
        _require_shared_memory(7 * batch * t.crop[0] * t.crop[1], t.workers)
    return DataLoader(
        draws,
        batch,
        sampler=range(first * t.batch + rank, t.steps * t.batch, world),
        collate_fn=collate,
        num_workers=t.workers,
        worker_init_fn=_prepare_worker,
        pin_memory=pin,
        prefetch_factor=AHEAD if t.workers else None,
        timeout=PATIENCE if t.workers else 0,
    )
