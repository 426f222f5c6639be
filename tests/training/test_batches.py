"""Mixed batches: shares, the same run for any number of workers, processes and after a resume, and clear errors."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heteroseg.datasets import read_sample
from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import Experiment
from heteroseg.experiment.sources import open_sources
from heteroseg.scenes import generate
from heteroseg.supervision.targets import offsets
from heteroseg.training.batches import Batch, TrainingDraws, images_per_dataset, training_loader
from heteroseg.training.batches import batches as batches_of

COUNTS = {"cityscapes": 5, "vistas": 5, "gtsdb": 5}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    generate(root, 5, 1, (48, 96), seed=1)
    return root


def experiment(root: Path, shares=(1, 2, 1), focus=0.5, **train) -> Experiment:
    datasets = {
        name: {"root": name, "reader": name, "label_space": name, "share": share, "scale": (0.7, 1.5)}
        for name, share in zip(COUNTS, shares, strict=True)
    }
    datasets["gtsdb"]["focus"] = focus  # the others have no boxes
    train = {"steps": 6, "batch": 4, "crop": (33, 47), "seed": 3, "workers": 0, **train}
    return Experiment(name="e", taxonomy="streets-108", data_root=str(root), datasets=datasets, train=train)


def batches(e: Experiment, root: Path, **options) -> list[Batch]:
    return list(batches_of(training_loader(e, open_sources(e, root), **options)))


def same(a: Batch, b: Batch) -> bool:
    pairs = ((a.images, b.images), (a.mask, b.mask), (a.boxes, b.boxes))
    return a.names == b.names and all(torch.equal(x, y) for x, y in pairs)


def owner(name: str) -> str:
    return next(d for d in COUNTS if f"/{d}/" in name)


@pytest.fixture(scope="module")
def run(root) -> list[Batch]:
    return batches(experiment(root), root)


def test_shapes_types_and_shares(run, root):
    e = experiment(root)
    sources = open_sources(e, root)
    starts = offsets([s.space for s in sources])
    assert len(run) == 6
    for batch in run:
        assert (batch.images.shape, batch.images.dtype) == ((4, 3, 33, 47), torch.uint8)
        assert (batch.mask.shape, batch.mask.dtype) == ((4, 33, 47), torch.int16)
        assert (batch.boxes.shape, batch.boxes.dtype) == ((4, 33, 47), torch.int16)
        assert Counter(map(owner, batch.names)) == {"cityscapes": 1, "vistas": 2, "gtsdb": 1}
        for name, mask, boxes in zip(batch.names, batch.mask, batch.boxes, strict=True):
            i = list(COUNTS).index(owner(name))
            labels = boxes if owner(name) == "gtsdb" else mask
            other = mask if owner(name) == "gtsdb" else boxes
            assert (other == -1).all()
            known = labels[labels >= 0]
            assert ((known >= starts[i]) & (known < starts[i + 1])).all()
    assert any((b.boxes >= 0).any() for b in run)
    assert all((b.mask >= 0).any() for b in run)


@given(st.lists(st.floats(0.01, 50), min_size=1, max_size=6), st.integers(1, 40))
def test_images_per_dataset(shares, batch):
    e = experiment(Path("."))
    config, item = next(iter(e.datasets.values())), object()
    sources = [type("Fake", (), {"config": config.model_copy(update={"share": s}), "train": [item]})() for s in shares]
    if batch < len(shares):
        with pytest.raises(HeterosegError, match=r"train\.batch"):
            images_per_dataset(sources, batch)
        return
    counts = images_per_dataset(sources, batch)
    assert sum(counts) == batch
    assert min(counts) >= 1
    for n, share in zip(counts, shares, strict=True):
        assert n == 1 or n < share / sum(shares) * batch + 1, "above the share only by its guaranteed place"


@pytest.mark.parametrize(
    ("shares", "batch", "expected"),
    [
        ((1, 2, 1), 4, [1, 2, 1]),
        ((1, 2, 1), 8, [2, 4, 2]),
        ((1, 1, 1), 3, [1, 1, 1]),
        ((100, 1, 1), 6, [4, 1, 1]),
        ((0.5, 0.25, 0.25), 16, [8, 4, 4]),
    ],
)
def test_images_per_dataset_follow_the_shares(root, shares, batch, expected):
    e = experiment(root, shares, batch=batch)
    assert images_per_dataset(open_sources(e, root), batch) == expected


def test_a_dataset_without_training_images_has_no_place(root):
    e = experiment(root)
    e.datasets["vistas"].train = None
    sources = open_sources(e, root)
    assert images_per_dataset(sources, 4) == [2, 0, 2]
    assert not any("vistas" in n for b in batches_of(training_loader(e, sources)) for n in b.names)


def test_every_item_once_a_round(root):
    e = experiment(root, batch=4)
    draws = TrainingDraws(open_sources(e, root), 4, (8, 8), 0.0, 3)
    seen = {0: [], 1: [], 2: []}
    for index in range(4 * 30):
        number, item, _ = draws.item(index)
        seen[number].append(item.name)
    assert {k: len(v) for k, v in seen.items()} == {0: 30, 1: 60, 2: 30}
    orders = set()
    for names in seen.values():
        rounds = [tuple(names[i : i + 5]) for i in range(0, len(names), 5)]
        assert all(len(set(r)) == 5 for r in rounds)
        orders |= set(rounds)
    assert len(orders) > 15, "every round has an order of its own"


def test_the_order_of_a_round_is_worked_out_once(root, monkeypatch):
    """Whatever the order of the draws; one permutation of 1.7 million images takes a quarter of a second."""
    sources = open_sources(experiment(root), root)
    draws, again = (TrainingDraws(sources, 4, (8, 8), 0.0, 3) for _ in range(2))
    forward = [draws.item(i)[1].name for i in range(60)]
    assert [draws.item(i)[1].name for i in range(59, -1, -1)] == forward[::-1]
    made = []
    generator = np.random.default_rng

    def counted(seed):
        made.append(tuple(seed))
        return generator(seed)

    monkeypatch.setattr(np.random, "default_rng", counted)
    assert [again.item(i)[1].name for i in range(60)] == forward
    orders = [seed for seed in made if seed[1] in (0, 1, 2)]  # seed, dataset, round
    assert len(orders) == len(set(orders)) == 3 + 6 + 3


def test_seed_decides_everything(root, run):
    assert all(same(a, b) for a, b in zip(run, batches(experiment(root), root), strict=True))
    other = batches(experiment(root, seed=4), root)
    assert not any(same(a, b) for a, b in zip(run, other, strict=True))
    assert [b.names for b in run] != [b.names for b in other]


def test_no_two_draws_look_alike(root, run):
    """An item that comes again is cropped and coloured anew."""
    first: dict[str, list[torch.Tensor]] = {}
    for batch in run:
        for name, image in zip(batch.names, batch.images, strict=True):
            assert not any(torch.equal(image, old) for old in first.get(name, []))
            first.setdefault(name, []).append(image)
    assert max(map(len, first.values())) > 1


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(root, run, workers):
    found = batches(experiment(root, workers=workers), root)
    assert all(same(a, b) for a, b in zip(run, found, strict=True))


@pytest.mark.parametrize("workers", [0, 1])
def test_resume_goes_on_where_it_stopped(root, run, workers):
    found = batches(experiment(root, workers=workers), root, first=4)
    assert len(found) == 2
    assert all(same(a, b) for a, b in zip(run[4:], found, strict=True))


def test_two_processes_share_every_batch(root, run):
    parts = [batches(experiment(root), root, rank=r, world=2) for r in range(2)]
    for whole, a, b in zip(run, *parts, strict=True):
        assert len(a.names) == len(b.names) == 2
        order = [0, 2, 1, 3]  # rank 0 has places 0 and 2
        both = Batch(
            *(torch.cat([x, y])[order] for x, y in zip(*map(tensors, (a, b)), strict=True)),
            [(a.names + b.names)[i] for i in order],
            a.mixtures,
        )
        assert same(whole, both)
    with pytest.raises(HeterosegError, match="multiple of the 3 processes"):
        batches(experiment(root), root, world=3)


def tensors(b: Batch):
    return b.images, b.mask, b.boxes


def test_a_batch_smaller_than_the_datasets_is_an_error(root):
    with pytest.raises(HeterosegError, match=r"train\.batch: 2 images cannot hold one of each of the 3"):
        batches(experiment(root, batch=2), root)


# ---- bad files are told by name, also from a worker


def broken(root: Path, tmp_path: Path, kind: str):
    """Sources of which every Cityscapes item has a wrong id or an unreadable image; and the bad file."""
    e = experiment(root)
    sources = open_sources(e, root)
    item = sources[0].train[0]
    if kind == "id":
        bad = tmp_path / "wrong_labelIds.png"
        mask = np.full((48, 96), 7, np.uint8)
        mask[10:40, 20:80] = 77
        cv2.imwrite(str(bad), mask)
        item = replace(item, mask=bad)
    else:
        bad = tmp_path / "cut.png"
        bad.write_bytes(item.image.read_bytes()[:200])
        item = replace(item, image=bad)
    sources[0].train = [item]
    return sources, bad


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", ["id", "image"])
def test_a_bad_file_is_told_by_name(root, tmp_path, kind, workers):
    sources, bad = broken(root, tmp_path, kind)
    e = experiment(root, workers=workers)
    with pytest.raises(HeterosegError) as error:
        list(batches_of(training_loader(e, sources)))
    assert len(error.value.faults) == 1, "one sentence, without a worker's traceback"
    assert str(bad) in str(error.value)
    assert ("77" if kind == "id" else "cut off or damaged") in str(error.value)


def test_faults_of_all_datasets_are_told_together(root):
    e = experiment(root)
    e.datasets["cityscapes"].root = "nowhere"
    e.datasets["vistas"].train = "trian"
    with pytest.raises(HeterosegError) as error:
        open_sources(e, root)
    assert any(f.startswith("datasets.cityscapes: ") for f in error.value.faults)
    assert any(f.startswith("datasets.vistas: ") for f in error.value.faults)


# ---- draws for rare labels


def test_rare_draws_show_every_label_as_often_as_any_other(root):
    e = experiment(root)
    for d in e.datasets.values():
        d.rare, d.scale = 1.0, (1.0, 1.0)
    sources = open_sources(e, root)
    draws = TrainingDraws(sources, 4, (33, 47), 0.0, seed=3)
    seen: dict[int, Counter] = {0: Counter(), 1: Counter(), 2: Counter()}
    for index in range(400):
        owner_, item, label = draws.item(index)
        seen[owner_][label] += 1
        sample = read_sample(item)
        held = sample.box_ids if sample.mask is None else sample.mask
        assert label in held
        if index < 60:  # and the crop holds it, at or beside the chosen point
            position = sources[owner_].space.ids.tolist().index(label) + draws.offsets[owner_]
            _, mask, boxes, _, _ = draws[index]
            assert position in (boxes if sample.mask is None else mask)
    for owner_, counts in seen.items():
        ignored = set(sources[owner_].space.ids[sources[owner_].space.ignored].tolist())
        assert len(counts) > 5
        assert not ignored & set(counts)
        mean = sum(counts.values()) / len(counts)
        assert max(counts.values()) < 3 * mean + 5


def test_rare_draws_are_a_part_and_repeat(root):
    e = experiment(root)
    e.datasets["vistas"].rare = 0.5
    draws, again = (TrainingDraws(open_sources(e, root), 4, (33, 47), 0.5, seed=3) for _ in range(2))
    found = [draws.item(i) for i in range(400)]
    assert {owner_ for owner_, _, label in found if label is not None} == {1}
    part = np.mean([label is not None for owner_, _, label in found if owner_ == 1])
    assert 0.35 < part < 0.65
    assert [(o, i.name, x) for o, i, x in found[:50]] == [(o, i.name, x) for o, i, x in map(again.item, range(50))]
    assert torch.equal(draws[3][0], again[3][0])


def test_rare_draws_decode_no_photograph_at_the_start(root, monkeypatch):
    e = experiment(root)
    for d in e.datasets.values():
        d.rare = 1.0
    sources = open_sources(e, root)
    expected = []
    for source in sources:
        samples = [read_sample(item) for item in source.train]
        held = [set(s.box_ids.tolist() if s.mask is None else np.unique(s.mask).tolist()) for s in samples]
        trained = source.space.ids[~source.space.ignored].tolist()
        images = {i: [k for k, ids in enumerate(held) if i in ids] for i in trained}
        expected.append({i: indices for i, indices in images.items() if indices})
    photographs = {item.image for source in sources for item in source.train}
    decode = cv2.imdecode

    def counted(data, flags):
        assert data.tobytes() not in contents, "a photograph was decoded"
        return decode(data, flags)

    contents = {path.read_bytes() for path in photographs}
    monkeypatch.setattr(cv2, "imdecode", counted)
    draws = TrainingDraws(sources, 4, (33, 47), 0.0, seed=3)
    assert [{i: k.tolist() for i, k in images.items()} for images in draws.images_of] == expected
    assert [list(images) for images in draws.images_of] == [list(images) for images in expected], "in the order of ids"
    with pytest.raises(AssertionError, match="a photograph"):
        draws[0]


@pytest.mark.parametrize(("option", "dataset"), [("focus", "vistas"), ("rare", "gtsdb")])
def test_crops_that_no_image_can_give_are_a_fault(root, option, dataset):
    e = experiment(root)
    setattr(e.datasets[dataset], option, 0.5)
    sources = open_sources(e, root)
    for source in sources:
        if source.name == dataset and option == "rare":
            source.train = [replace(item, boxes=item.boxes[:0], box_ids=item.box_ids[:0]) for item in source.train]
            source.config.focus = 0.0
    with pytest.raises(
        HeterosegError, match=rf"^datasets\.{dataset}\.{option} has no effect, no training image"
    ) as error:
        training_loader(e, sources)
    assert len(error.value.faults) == 1
    training_loader(e, sources, first=2)  # a run that began before this was told can go on
