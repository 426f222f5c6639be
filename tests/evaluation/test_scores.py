"""Scores of a network: every dataset in its own labels, and every labelled pixel counted once."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from heteroseg.datasets import read_sample
from heteroseg.errors import HeterosegError
from heteroseg.evaluation.scores import evaluate, evaluate_source, predict_labelled, truth
from heteroseg.experiment.config import load_experiment
from heteroseg.experiment.sources import Source, open_sources
from heteroseg.labels.space import OUTSIDE_NAME, AroundBoxes, build_label_space, load_label_space
from heteroseg.labels.taxonomy import load_taxonomy
from heteroseg.model.model import Model
from heteroseg.supervision.targets import encode


@pytest.fixture(scope="module")
def sources(tiny_experiment) -> list[Source]:
    return open_sources(*load_experiment(tiny_experiment))


@pytest.fixture(scope="module")
def result(tiny_model, sources) -> dict:
    return evaluate(tiny_model, sources)["datasets"]


class Says:
    """A model that finds the same label index everywhere, or what `find(image, space)` gives."""

    def __init__(self, taxonomy, find):
        self.taxonomy, self.find = taxonomy, find

    def predict(self, image):
        self.image = image
        return self

    def label_indices(self, space):
        found = self.find(self.image, space) if callable(self.find) else self.find
        return np.broadcast_to(found, self.image.shape[:2])


def gtsdb_of(sources: list[Source]) -> Source:
    return next(s for s in sources if s.name == "gtsdb")


def labelled(source: Source) -> list[np.ndarray]:
    """True positions of a source's val images, straight from the files."""
    return [truth(read_sample(item, scoring=True), source.space) for item in source.val]


def with_own_answers(model: Model, source: Source, folder: Path) -> Source:
    """The source with the model's own predictions as its masks."""
    items = []
    for item in source.val:
        path = folder / source.name / f"{Path(item.name).name}.png"
        path.parent.mkdir(exist_ok=True)
        ids = model.predict(item.image).labels(source.space)
        assert cv2.imwrite(str(path), ids.astype(np.uint16))
        items.append(
            replace(item, mask=path, scoring_mask=None, palette=None, boxes=item.boxes[:0], box_ids=item.box_ids[:0])
        )
    return replace(source, val=items)


def test_its_own_answers_score_one(tiny_model, sources, tmp_path):
    own = [with_own_answers(tiny_model, s, tmp_path) for s in sources]
    result = evaluate(tiny_model, own)["datasets"]
    for name, d in result.items():
        assert d["miou"] == d["macc"] == d["acc"] == 1.0
        assert sum(c["pixels"] > 0 for c in d["per_class"].values()) >= 3, name
        assert d["decided"]["wrong"] == d["decided"]["outside"] == 0
    # and not any longer when two rows of one mask are moved
    path = own[0].val[0].mask
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(path), np.roll(mask, 9, axis=1))
    assert evaluate(tiny_model, own)["datasets"][own[0].name]["acc"] < 1.0


def test_every_dataset_in_its_own_labels(result, sources):
    assert list(result) == ["cityscapes", "vistas", "gtsdb"]
    for source in sources:
        d = result[source.name]
        assert d["label_space"] == source.space.name
        assert d["images"] == 2
        assert list(d["per_class"]) == [label.name for label in source.space.labels if label.evaluate and label.leaves]


def test_pixels_are_those_of_the_masks(result, sources):
    for source in sources:
        masks = labelled(source)
        for position, label in enumerate(source.space.labels):
            if source.space.evaluated[position]:
                scores = result[source.name]["per_class"][label.name]
                assert scores["pixels"] == sum(int((m == position).sum()) for m in masks)
                assert (scores["iou"] is None) == (scores["acc"] is None) == (scores["pixels"] == 0)


def test_right_wrong_and_outside_are_all_labelled_pixels(result, sources):
    for source in sources:
        parts = result[source.name]["decided"]
        total = sum(int(source.space.evaluated[m[m >= 0]].sum()) for m in labelled(source))
        assert total > 0
        assert parts["right"] + parts["wrong"] + parts["outside"] == total
        assert parts["right"] / total == pytest.approx(result[source.name]["acc"])


def test_outside_is_a_miss_and_wrong_is_not_outside(tiny_model, sources):
    source = gtsdb_of(sources)
    total = sum(int((m >= 0).sum()) for m in labelled(source))
    never = evaluate(Says(tiny_model.taxonomy, -1), [source])["datasets"]["gtsdb"]
    parts = never["decided"]
    assert never["miou"] == never["acc"] == 0.0
    assert parts == {"right": 0, "wrong": 0, "outside": total, "right_of_inside": None}
    position = int(labelled(source)[0].max())
    always = evaluate(Says(tiny_model.taxonomy, position), [source])["datasets"]["gtsdb"]["decided"]
    right = sum(int((m == position).sum()) for m in labelled(source))
    assert right > 0
    assert always == {"right": right, "wrong": total - right, "outside": 0, "right_of_inside": right / total}


def test_images_without_any_label(tiny_model, sources):
    source = gtsdb_of(sources)
    none = {"scoring_mask": None, "boxes": source.val[0].boxes[:0], "box_ids": source.val[0].box_ids[:0]}
    bare = [replace(i, name=f"bare {i.name}", **none) for i in source.val]
    d = evaluate(tiny_model, [replace(source, val=bare)])["datasets"]["gtsdb"]
    assert d["images"] == 2
    assert [d[k] for k in ("miou", "macc", "acc")] == [None] * 3
    assert all(c == {"iou": None, "acc": None, "pixels": 0} for c in d["per_class"].values())
    assert d["decided"] == {"right": 0, "wrong": 0, "outside": 0, "right_of_inside": None}
    assert d["confusion"] == {}
    assert list(d["per_image"].values()) == [{"acc": None, "iou": {}}] * 2
    # beside annotated images they change nothing but the number of images and of unlabelled pixels
    mixed = evaluate(tiny_model, [replace(source, val=[*source.val, *bare])])["datasets"]["gtsdb"]
    alone = evaluate(tiny_model, [source])["datasets"]["gtsdb"]
    pixels = mixed["unlabelled"]["pixels"]
    assert pixels == alone["unlabelled"]["pixels"] + d["unlabelled"]["pixels"]
    images = alone["per_image"] | d["per_image"]
    assert mixed == alone | {"images": 4, "unlabelled": mixed["unlabelled"], "per_image": images}


def test_confusion_tells_what_every_true_pixel_is_taken_for(result, sources):
    for source in sources:
        d = result[source.name]
        assert {true: sum(row.values()) for true, row in d["confusion"].items()} == {
            name: c["pixels"] for name, c in d["per_class"].items() if c["pixels"]
        }
        assert sum(row.get(true, 0) for true, row in d["confusion"].items()) == d["decided"]["right"]
        assert sum(row.get(OUTSIDE_NAME, 0) for row in d["confusion"].values()) == d["decided"]["outside"]


def test_scores_of_one_image_are_those_of_a_dataset_of_it(tiny_model, sources, result):
    for source in sources:
        assert list(result[source.name]["per_image"]) == [item.name for item in source.val]
        item = source.val[1]
        alone = evaluate(tiny_model, [replace(source, val=[item])])["datasets"][source.name]
        iou = {name: pytest.approx(c["iou"], abs=1e-4) for name, c in alone["per_class"].items() if c["pixels"]}
        assert result[source.name]["per_image"][item.name] == {"acc": alone["acc"], "iou": iou}


def test_claims_on_unlabelled_pixels_are_told(tiny_model, sources):
    """A network that sees a sign everywhere has many signs right, and every pixel that it should not know."""
    source = gtsdb_of(sources)
    masks = labelled(source)
    free = sum(int((m < 0).sum()) for m in masks)
    sign = int(masks[0].max())
    for position, claimed in ((sign, free), (-1, 0), (0, 0)):  # position 0 is "unlabeled", which nothing claims
        d = evaluate(Says(tiny_model.taxonomy, position), [source])["datasets"]["gtsdb"]
        assert d["unlabelled"] == {"pixels": free, "claimed": claimed}


def test_claims_are_false_alarms_where_silence_means_something(tiny_model, sources):
    source = gtsdb_of(sources)
    masks = labelled(source)
    sign = int(masks[0].max())
    saying = Says(tiny_model.taxonomy, sign)
    assert evaluate(saying, [source])["datasets"]["gtsdb"]["strict_miou"] is None
    file = source.space.file.model_copy(update={"around_boxes": AroundBoxes(excludes="traffic sign (front)")})
    spoken = replace(source, space=build_label_space(file, source.space.taxonomy))
    d = evaluate(saying, [spoken])["datasets"]["gtsdb"]
    pixels = sum(m.size for m in masks)
    present = {int(v) for m in masks for v in np.unique(m) if v >= 0}
    iou = sum(int((m == sign).sum()) for m in masks) / pixels  # it says the sign everywhere
    assert d["strict_miou"] == pytest.approx(iou / len(present))
    assert d["strict_miou"] < d["miou"]


def test_what_was_left_out_of_training_is_missed_not_forgotten(tiny_model, sources):
    """As the way `drop` is scored: its label spaces ignore labels that the annotation has."""
    source = next(s for s in sources if s.name == "cityscapes")
    masks = labelled(source)
    most = int(np.bincount(np.concatenate([m[m >= 0] for m in masks])).argmax())
    entries = [
        e.model_copy(update={"nodes": None, "ignore": True, "evaluate": False}) if i == most else e
        for i, e in enumerate(source.space.file.labels)
    ]
    narrow = build_label_space(source.space.file.model_copy(update={"labels": entries}), source.space.taxonomy)
    poorer = replace(source, space=narrow)
    assert evaluate_source(tiny_model, poorer).confusion[most].sum() == 0
    counts = evaluate_source(tiny_model, poorer, truths=source.space).confusion
    assert counts[most].sum() == sum(int((m == most).sum()) for m in masks) > 0
    assert counts[:, most].sum() == 0


def test_shapes_of_boxes_are_the_truth_where_no_mask_is(tiny_model, sources):
    source = gtsdb_of(sources)
    items = [replace(i, scoring_mask=None) for i in source.val]
    assert sum(len(i.boxes) for i in items) > 0
    shapes = [encode(read_sample(i), source.space, 0).boxes for i in items]
    tally = evaluate_source(tiny_model, replace(source, val=items))
    assert tally.images == 2
    assert tally.confusion.sum() == sum(int((s >= 0).sum()) for s in shapes) > 0
    assert evaluate_source(tiny_model, source).confusion.sum() == sum(int((m >= 0).sum()) for m in labelled(source))


def test_a_coarser_level_is_never_less_accurate(result):
    for d in result.values():
        levels = [d["levels"][key] for key in sorted(d["levels"], key=int)]
        assert len(levels) >= 2
        accuracies = [level["acc"] for level in levels] + [d["acc"]]
        assert accuracies == sorted(accuracies, reverse=True)
        pixels = {sum(c["pixels"] for c in level["per_class"].values()) for level in levels}
        assert pixels == {sum(c["pixels"] for c in d["per_class"].values())}


def test_a_wrong_sign_is_right_as_a_sign(tiny_model, sources):
    """Levels: every sign called a wrong type is still right where the tree only says `traffic sign`."""
    source = gtsdb_of(sources)
    known = np.unique(np.concatenate([m[m >= 0] for m in labelled(source)]))
    wrong = next(i for i in range(1, len(source.space.labels)) if i not in known)
    d = evaluate(Says(tiny_model.taxonomy, wrong), [source])["datasets"]["gtsdb"]
    assert d["acc"] == 0.0
    assert d["levels"]["1"]["acc"] == 1.0


def test_a_limit_and_the_log(tiny_model, sources):
    lines = []
    result = evaluate(tiny_model, sources, 1, lines.append)
    assert [d["images"] for d in result["datasets"].values()] == [1, 1, 1]
    assert lines == ["cityscapes", "vistas", "gtsdb"]


def test_labelled_images_come_with_their_predictions(tiny_model, sources):
    source = gtsdb_of(sources)
    for item, wanted, (sample, true, prediction) in zip(
        source.val, labelled(source), predict_labelled(tiny_model, source.val, source.space), strict=True
    ):
        assert sample.name == item.name
        assert np.array_equal(true, wanted)
        assert np.array_equal(prediction.labels("gtsdb"), tiny_model.predict(item.image).labels("gtsdb"))


def test_another_taxonomy_is_refused(tiny_model, sources):
    other = replace(gtsdb_of(sources), space=load_label_space("gtsdb-real"))
    with pytest.raises(HeterosegError, match=r"datasets\.gtsdb: .* 'streets-real', the model to 'streets-108'"):
        evaluate(tiny_model, [other])
    tree = tiny_model.taxonomy
    deep = next(node for node, parent in enumerate(tree.parents) if parent > 0)
    moved = replace(tree, parents=(*tree.parents[:deep], 0, *tree.parents[deep + 1 :]))
    same_name = replace(gtsdb_of(sources), space=replace(gtsdb_of(sources).space, taxonomy=moved))
    with pytest.raises(HeterosegError, match="another tree of that name"):
        evaluate(tiny_model, [same_name])


def test_void_logits_are_the_models_business(tiny_model, sources, result):
    """An experiment that says `void: true` does not shift the logits of a model without."""
    tree = load_taxonomy("streets-108", void=True)
    shifted = [replace(s, space=replace(s.space, taxonomy=tree)) for s in sources]
    assert evaluate(tiny_model, shifted)["datasets"] == result


def test_nothing_to_evaluate(tiny_model, sources):
    with pytest.raises(HeterosegError, match="no dataset of the experiment has a val split"):
        evaluate(tiny_model, [replace(s, val=[]) for s in sources])


def test_a_wrong_id_is_told_with_its_file(tiny_model, sources, tmp_path):
    source = sources[0]
    path = tmp_path / "wrong.png"
    cv2.imwrite(str(path), np.full((64, 128), 200, np.uint8))
    with pytest.raises(HeterosegError, match=r"wrong\.png: expected ids of label space 'cityscapes', found 200"):
        evaluate(tiny_model, [replace(source, val=[replace(source.val[0], mask=path)])])
