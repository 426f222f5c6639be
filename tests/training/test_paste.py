"""Things of one dataset in images of another: pixels and labels come along together, and nothing else changes."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heteroseg.datasets import read_sample
from heteroseg.datasets.sample import Sample
from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import AugmentConfig, Experiment
from heteroseg.experiment.sources import Source, open_sources
from heteroseg.labels.space import load_label_space
from heteroseg.scenes import generate
from heteroseg.supervision.label_terms import build_terms
from heteroseg.supervision.loss import hierarchical_loss
from heteroseg.supervision.targets import Target, draw_shape
from heteroseg.training.batches import TrainingDraws, training_loader
from heteroseg.training.paste import thing_in

CROP = (48, 64)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    generate(root, 4, 1, (96, 160), seed=1)
    return root


def sources_of(
    root: Path, paste: float, of: str = "gtsdb", paste_of: tuple[str, ...] = ()
) -> tuple[Experiment, list[Source]]:
    datasets: dict = {name: {"root": name, "reader": name, "label_space": name} for name in ("cityscapes", "gtsdb")}
    datasets[of] |= {"paste": paste, "paste_of": list(paste_of)}
    train = {"steps": 2, "batch": 4, "crop": CROP, "workers": 0}
    e = Experiment(name="e", taxonomy="streets-108", data_root=str(root), datasets=datasets, train=train)
    return e, open_sources(e, root)


def draws_of(root: Path, paste: float, of: str = "gtsdb", paste_of: tuple[str, ...] = ()) -> TrainingDraws:
    return TrainingDraws(sources_of(root, paste, of, paste_of)[1], 4, CROP, 0.0, seed=5)


def laid(draws: TrainingDraws, rng: np.random.Generator, window=None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An empty image of one label with what is pasted, and its label maps."""
    view = Sample("s", np.zeros((*CROP, 3), np.uint8), window=window)
    target = Target(np.full(CROP, 3, np.int16), np.full(CROP, -1, np.int16))
    draws.pasting.lay(view, target, rng)
    return view.image, target.mask, target.boxes


@given(st.integers(0, 2**16))
def test_a_boxed_thing_has_the_shape_of_its_label(seed):
    rng = np.random.default_rng(seed)
    space = load_label_space("gtsdb")
    label = space.labels[rng.integers(1, len(space.labels))]
    corner, side = rng.uniform(0, 30, 2), rng.uniform(4, 40, 2)
    box = np.concatenate([corner, corner + side]).astype(np.float32)
    image = rng.integers(0, 256, (80, 80, 3), np.uint8)
    sample = Sample("s", image, boxes=np.stack([box + 1, box]), box_ids=np.array([label.id, label.id]))
    thing = thing_in(sample, space, label.id, 1)
    whole = np.zeros((80, 80), np.uint8)
    draw_shape(whole, box, label.shape, 1)
    y, x = np.floor(corner[::-1]).astype(int)
    height, width = thing.shape.shape
    assert thing.boxed
    assert (thing.pixels == image[y : y + height, x : x + width]).all()
    assert thing.shape.sum() == whole.sum() > 0
    assert (thing.shape == whole[y : y + height, x : x + width]).all()


def test_a_thing_of_a_mask_is_its_largest_part():
    space = load_label_space("camvid11")
    mask = np.full((20, 30), space.ids[0], np.int32)
    mask[2:4, 2:4] = mask[10:18, 5:12] = mask[10, 12:16] = space.ids[1]
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    thing = thing_in(Sample("s", image, mask), space, int(space.ids[1]), 0)
    assert not thing.boxed
    assert thing.shape.shape == (8, 11)
    assert thing.shape.sum() == 8 * 7 + 4
    assert (thing.pixels == image[10:18, 5:16]).all()


@pytest.mark.parametrize(
    ("of", "names"), [("gtsdb", ()), ("gtsdb", ("traffic sign (front)",)), ("cityscapes", ("car", "driveable"))]
)
def test_pixels_and_labels_come_along_and_nothing_else_changes(root, of, names):
    with_things, without = draws_of(root, 2, of, names), draws_of(root, 0, of)
    owner, changed_hosts = [s.name for s in with_things.sources].index(of), set()
    space = with_things.sources[owner].space
    labels = {
        with_things.offsets[owner] + int(i) for i in space.indices_of(np.array(list(with_things.pasting.images[owner])))
    }
    for index in range(40):
        new, old = with_things[index], without[index]
        assert new[3] == old[3]
        known, other = (new[2], new[1]) if of == "gtsdb" else (new[1], new[2])
        different = (new[1] != old[1]) | (new[2] != old[2])
        assert set(known[different].unique().tolist()) <= labels
        assert (other[different] == -1).all()
        # the picture changes where the labels do, and on the soft rim of it
        rim = cv2.dilate(different.numpy().astype(np.uint8), np.ones((9, 9)))
        painted = (new[0] != old[0]).any(0).numpy()
        if not (known == old[2 if of == "gtsdb" else 1]).all():
            changed_hosts.add(int(with_things.owner[index % 4]))
            assert painted[different.numpy()].mean() > 0.5
        same_label = torch.isin(old[2] if of == "gtsdb" else old[1], torch.tensor(sorted(labels))).numpy()
        assert not painted[(rim == 0) & ~cv2.dilate(same_label.astype(np.uint8), np.ones((9, 9))).astype(bool)].any()
    assert changed_hosts == {0, 1}  # of both datasets


def test_a_thing_is_what_its_photograph_shows(root):
    """At its own size and colour the middle of a thing is found in its photograph, pixel by pixel."""
    draws = draws_of(root, 3)
    source = draws.sources[1]
    source.config.scale = (1.0, 1.0)
    photographs = [read_sample(item).image for item in source.train]
    found = 0
    image, mask, boxes = laid(draws, np.random.default_rng(2))
    inner = cv2.erode((boxes >= 0).astype(np.uint8), np.ones((9, 9)), borderValue=0)
    for y, x in np.argwhere(inner)[::7]:
        patch = image[y - 2 : y + 3, x - 2 : x + 3]
        if patch.shape != (5, 5, 3):
            continue
        scores = [cv2.matchTemplate(p, patch, cv2.TM_SQDIFF).min() for p in photographs]
        found += min(scores) < 5 * 5 * 3 * 4  # within rounding of the blur
    assert (mask[boxes >= 0] == -1).all()
    assert (mask[boxes < 0] == 3).all()
    assert found


def test_what_is_laid_teaches_its_own_classifiers(root):
    """A crop of Cityscapes teaches types of signs, of which Cityscapes knows nothing."""
    draws = draws_of(root, 4)
    spaces = [s.space for s in draws.sources]
    tree, terms = spaces[0].taxonomy, build_terms(spaces)
    signs = [c.node for c in tree.classifiers].index(tree.index("traffic sign (front)"))
    taught = {}
    for name, other in (("with", draws), ("without", draws_of(root, 0))):
        crops = [other[i] for i in range(40) if other.owner[i % 4] == 0]
        mask, boxes = (torch.stack([c[k] for c in crops]) for k in (1, 2))
        logits = torch.zeros(len(crops), tree.channels, 12, 16)
        taught[name] = hierarchical_loss(logits, mask, boxes, terms, tree, cell=1, gate="open")[0].weight[signs].sum()
    assert taught["with"] > 100
    assert taught["without"] == 0


def test_draws_are_the_same_again_and_in_another_process(root):
    e, sources = sources_of(root, 2.5)
    first = [b.images for b in training_loader(e, sources)]
    e.train.workers = 1
    again = [b.images for b in training_loader(e, sources)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_labels_are_drawn_equally_often(root):
    draws = draws_of(root, 1)
    rng = np.random.default_rng(0)
    labels = [draws.pasting.draw(1, rng)[1] for _ in range(600)]
    counts = np.array([labels.count(label) for label in set(labels)])
    assert len(counts) == len(draws.pasting.images[1]) > 1
    expected = 600 / len(counts)
    assert (abs(counts - expected) < 5 * np.sqrt(expected)).all()


def test_half_a_thing_a_crop_is_one_in_every_second(root):
    draws, rng = draws_of(root, 0.5), np.random.default_rng(0)
    changed = 0
    for _ in range(400):
        changed += bool((laid(draws, rng)[2] >= 0).any())
    assert 60 < changed < 240  # those that do not fit are left out


def test_what_cannot_be_pasted_is_told(root):
    with pytest.raises(HeterosegError, match=r"^datasets\.gtsdb\.paste_of: expected .*, found 'trafic sign'; did you"):
        training_loader(*sources_of(root, 1, paste_of=("trafic sign",)))
    with pytest.raises(HeterosegError, match=r"^datasets\.gtsdb\.paste_of: expected labels that training images hold"):
        training_loader(*sources_of(root, 1, paste_of=("traffic sign (front)", "road")))
    e, sources = sources_of(root, 1, "cityscapes")
    with pytest.raises(
        HeterosegError, match=r"^datasets\.cityscapes\.paste has no effect, no training image has boxes"
    ):
        training_loader(e, sources)
    training_loader(e, sources, first=1)  # a run that began can go on


def test_a_dataset_that_is_only_evaluated_gives_no_things(root):
    _, sources = sources_of(root, 1)
    sources[1].train = []
    assert TrainingDraws(sources, 4, CROP, 0.0, seed=5).pasting.images == [{}, {}]


def test_nothing_lies_beyond_the_photograph(root):
    draws, rng = draws_of(root, 5), np.random.default_rng(0)
    seen = np.zeros(CROP, bool)
    for _ in range(100):
        seen |= laid(draws, rng, (10, 5, 50, 41))[2] >= 0
    assert seen[5:41, 10:50].mean() > 0.9
    seen[5:41, 10:50] = False
    assert not seen.any()


def test_things_turn_with_the_image(root):
    _, sources = sources_of(root, 3)
    turned = TrainingDraws(sources, 4, CROP, 0.0, 5, AugmentConfig(rotate=30, chance=1))
    assert any((turned[i][2] >= 0).any() for i in range(8) if turned.owner[i % 4] == 0)


def test_masks_are_not_decoded_for_boxed_things(root):
    """A dataset that has both is pasted from its boxes alone."""
    _, sources = sources_of(root, 1)
    boxed = TrainingDraws(sources, 4, CROP, 0.0, seed=5).pasting.images[1]
    sources[1].train = [replace(item, mask=root / "nowhere.png") for item in sources[1].train]
    found = TrainingDraws(sources, 4, CROP, 0.0, seed=5).pasting.images[1]
    assert {i: images.tolist() for i, images in found.items()} == {i: images.tolist() for i, images in boxed.items()}
    assert len(found) > 1
