"""`data check` counts rightly, and has a line for everything that looks wrong, and none where nothing is."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from heteroseg.cli.main import main
from tests.curation.test_show import AROUND, HEIGHT, MASKS, SIGNS, WIDTH, write

IN_MASKS = {"masks": "masks/{name}.png"}
COLUMNS = "image,x1,y1,x2,y2,class_id\n"


def masked(
    root: Path, labels: list[dict] = MASKS, options: dict | None = None, more: dict | None = None, **ids
) -> Path:
    """An experiment of masks: each is filled with the ids of `ids`, from left to right in equal parts, else 1 and 2."""
    boxes = ids.pop("boxes", None)
    path = write(root, labels, IN_MASKS | (options or {}), more, **({"boxes": boxes} if boxes else {}))
    (root / "masks").mkdir(exist_ok=True)
    for name in "abc":
        row = np.repeat(np.array(ids.get(name, (1, 2)), np.uint8), WIDTH // len(ids.get(name, (1, 2))))
        Image.fromarray(row[None].repeat(HEIGHT, 0)).save(root / "masks" / f"{name}.png")
    return path


def check(capsys, path: Path, *options: str) -> tuple[int, list[str], list[str], list[str]]:
    """The exit status, the plain lines, the warnings and the faults."""
    code = main(["data", "check", str(path), *options])
    output = capsys.readouterr()
    lines = (output.out + output.err).splitlines()
    warnings = [line.removeprefix("warning: ") for line in lines if line.startswith("warning: ")]
    faults = output.err.partition("heteroseg: ")[2].splitlines()
    return code, output.out.splitlines(), warnings, faults


def test_masks_boxes_and_tags_are_counted(tmp_path, capsys):
    options = {"boxes": "boxes.csv", "tags": "tags.csv"}
    labels = [*MASKS, *(sign | {"shape": "rectangle"} for sign in SIGNS)]
    rows = COLUMNS + "a,30,0,40,10,7\na,0,0,4,5,7\nb,0,0,5,5,300\nc,0,0,2,2,7\n"
    path = masked(tmp_path, labels, options, a=(1, 1, 2, 0), b=(2,), boxes=rows)
    (tmp_path / "tags.csv").write_text("image,class_id\na,300\nb,7\nb,300\nc,7\n")
    code, lines, _, faults = check(capsys, path)
    assert (code, faults) == (0, [])
    head, columns, *table = lines[:6]
    assert head == f"d train: 2 images, {30 * 30 + 100 + 30 * 40} labelled pixels, 3 boxes, 3 tags"
    assert columns.split() == ["id", "label", "pixels", "share", "images", "boxes", "tags"]
    share = [f"{n / 2200:.3%}" for n in (600, 1500, 120, 25)]
    assert [line.split() for line in table] == [
        ["1", "below", "600", share[0], "1", "0", "0"],
        ["2", "rest", "1500", share[1], "2", "0", "0"],
        ["7", "Stop", "120", share[2], "1", "2", "1"],
        ["300", "Yield", "25", share[3], "1", "1", "2"],
    ]
    assert len({len(line) for line in (columns, *table)}) == 1
    assert lines[-1] == "all sound"


def test_sound_data_has_no_warning(tmp_path, capsys):
    labels = [*MASKS[:1], *({"id": i, "name": n, "nodes": n} for i, n in enumerate(LEAVES, 1))]
    path = masked(tmp_path, labels, a=(1, 2, 3, 4), b=(5, 6, 0, 0), c=(1,))
    code, lines, warnings, faults = check(capsys, path)
    assert (code, warnings, faults) == (0, [], [])
    assert lines[-1] == "all sound"


LEAVES = ("marking", "road", "sky", "car", "stop", "yield")


def test_labels_and_leaves_that_nothing_teaches(tmp_path, capsys):
    """What only a wider label has is not taught either: nothing tells a marking from the road."""
    labels = [*MASKS, {"id": 3, "name": "halt", "nodes": "stop"}, {"id": 4, "name": "aside", "nodes": "car"}]
    _, _, warnings, _ = check(capsys, masked(tmp_path, labels, a=(1, 3), b=(2, 3)))
    assert warnings == ["d train: no pixel, box or tag has 'aside'", "nothing teaches 'marking', 'road', 'yield'"]
    many = [*MASKS[:1], *({"id": i, "name": n, "nodes": n} for i, n in enumerate(LEAVES, 1))]
    _, _, warnings, _ = check(capsys, masked(tmp_path, many, a=(0, 3), b=(3,), c=(3,)))
    assert "d train: no pixel, box or tag has 'marking', 'road', 'car', 'stop', 'yield'" in warnings
    assert check(capsys, masked(tmp_path, many[:1] + many[1:4] + [many[4]], a=(4,), b=(4,), c=(4,)))[2] == [
        "d train: no pixel, box or tag has 'marking', 'road', 'sky'",
        "nothing teaches 'marking', 'road', 'sky', 'stop', 'yield'",
    ]


def test_large_ignored_parts(tmp_path, capsys):
    _, _, warnings, _ = check(capsys, masked(tmp_path, a=(1, 2, 0, 0), b=(1, 2, 0, 0, 0), c=(0, 0, 0, 1)))
    assert warnings[:2] == [
        "d train: 55% of the pixels are ignored; nothing teaches what they are",
        "d val: 75% of the pixels are ignored; no score tells how they are answered",
    ]
    _, _, warnings, _ = check(capsys, masked(tmp_path, a=(1, 2, 1, 0), c=(0, 1, 1, 2)))
    assert not any("ignored" in warning for warning in warnings)


def test_what_boxes_and_tags_teach_is_not_ignored(tmp_path, capsys):
    """Unknown ground of a json of polygons, around a box, is told to be no sign."""
    polygon = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [0, 0, 4, 4], "area": 16}
    polygon["segmentation"] = [[0, 0, 4, 0, 4, 4, 0, 4]]
    box = {"id": 2, "image_id": 1, "category_id": 7, "bbox": [10, 10, 8, 8], "area": 64, "iscrowd": 0}
    for split, name in (("train", "a"), ("val", "c")):
        images = [{"id": 1, "file_name": f"{name}.png", "width": WIDTH, "height": HEIGHT}]
        categories = [{"id": 1, "name": "below"}, {"id": 7, "name": "Stop"}]
        data = {"images": images, "annotations": [polygon, box], "categories": categories}
        (tmp_path / f"{split}.json").write_text(json.dumps(data))
    labels, options = [*MASKS, *SIGNS], {"polygons": "{split}.json", "boxes": "{split}.json"}
    path = write(tmp_path, labels, options, {"around_boxes": {"excludes": "sign", "margin": None}})
    assert not any("ignored" in warning for warning in check(capsys, path)[2])
    path = write(tmp_path, labels, options)
    assert any("d train: 94% of the pixels are ignored" in warning for warning in check(capsys, path)[2])


def test_masks_for_scores_alone_are_silent_by_design(tmp_path, capsys):
    shutil.rmtree(tmp_path)
    (tmp_path / "images").mkdir(parents=True)
    (tmp_path / "gtFine").mkdir()
    for name, i in (("00001", 1), ("00700", 2)):
        Image.new("RGB", (WIDTH, HEIGHT), (i, 9, 9)).save(tmp_path / "images" / f"{name}.png")
        mask = np.zeros((HEIGHT, WIDTH), np.uint16)
        mask[5:9, 5:9] = 2014
        Image.fromarray(mask).save(tmp_path / "gtFine" / f"{name}_labelIds.png")
    (tmp_path / "gt.txt").write_text("00001.ppm;5;5;8;8;14\n00700.ppm;5;5;8;8;14\n")
    (tmp_path / "e.yaml").write_text(
        "{name: e, taxonomy: streets-108, datasets: {d: {root: ., reader: gtsdb, label_space: gtsdb}}}"
    )
    code, lines, warnings, _ = check(capsys, tmp_path / "e.yaml")
    assert code == 0
    assert any(line.startswith("d val: 1 image, 16 labelled pixels, 1 box") for line in lines)
    assert not any("ignored" in warning for warning in warnings)


def test_how_images_are_read(tmp_path, capsys):
    path = masked(tmp_path)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    for split, name in (("train", "a"), ("train", "b")):
        Image.new("RGB", (WIDTH, HEIGHT), (ord(name), 0, 0)).save(tmp_path / split / f"{name}.png", exif=exif)
    Image.fromarray(np.full((HEIGHT, WIDTH), 4095, np.uint16)).save(tmp_path / "val" / "c.png")
    _, _, warnings, _ = check(capsys, path)
    assert "d train: 2 images turned upright, as EXIF orientation says" in warnings
    assert "d val: 1 image of 16 bits, of which 12 are used, read as 12" in warnings


def test_files_that_belong_nowhere(tmp_path, capsys):
    path = masked(tmp_path)
    (tmp_path / "other").mkdir()
    for name in ("x.JPG", "y.jfif"):
        Image.new("RGB", (4, 4)).save(tmp_path / "other" / name, format="JPEG")
    (tmp_path / "other" / "notes.txt").write_text("no image")
    _, lines, warnings, _ = check(capsys, path)
    first = tmp_path / "other" / "x.JPG"
    assert f"d: 2 image files in {tmp_path} of neither split, such as {first}" in lines
    assert not any("other" in warning for warning in warnings)
    more = "  e: {root: other, reader: folder, label_space: space.yaml, val: null,\n"
    more += "      options: {images: '{name}.*', tags: t.csv}}\n"
    (tmp_path / "other" / "t.csv").write_text("image,class_id\nx,1\ny,2\n")
    path.write_text(path.read_text().replace("datasets:\n", f"datasets:\n{more}"))
    code, lines, _, _ = check(capsys, path)
    assert code == 0
    assert not any("belong" in line for line in lines)  # what another dataset uses is used


def test_images_of_one_content(tmp_path, capsys):
    path = masked(tmp_path)
    shutil.copyfile(tmp_path / "train" / "a.png", tmp_path / "val" / "c.png")
    assert check(capsys, path)[0] == 0  # of one colour
    for split, name in (("train", "a"), ("val", "c")):
        pixels = np.arange(HEIGHT * WIDTH * 3).reshape(HEIGHT, WIDTH, 3).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / split / f"{name}.png")
    code, _, _, faults = check(capsys, path)
    assert (code, "expected val images that are not trained on, found 1 that are" in faults[0]) == (2, True)
    (tmp_path / "val" / "c.png").unlink()
    (tmp_path / "val" / "c.png").symlink_to(tmp_path / "train" / "a.png")
    code, lines, warnings, faults = check(capsys, path)
    assert code == 2
    assert any("say --allow-overlap" in fault for fault in faults)
    assert "all sound" not in lines
    code, _, warnings, _ = check(capsys, path, "--allow-overlap")
    assert code == 0
    assert any("expected val images that are not trained on" in warning for warning in warnings)


def test_a_split_without_any_label(tmp_path, capsys):
    code, _, _, faults = check(capsys, masked(tmp_path, c=(0,)))
    assert (code, len(faults)) == (2, 1)
    assert faults[0].startswith("d val: expected a labelled pixel, box or tag, found none in 1 image; check the label")


def test_faults_of_one_kind_are_told_together(tmp_path, capsys):
    path = masked(tmp_path)
    names = [f"n{i:02d}" for i in range(20)]
    for name in names:
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "train" / f"{name}.png")
        Image.new("L", (WIDTH, HEIGHT), 9).save(tmp_path / "masks" / f"{name}.png")
    Image.new("L", (WIDTH, HEIGHT + 1), 1).save(tmp_path / "masks" / "a.png")
    data = (tmp_path / "train" / "b.png").read_bytes()
    (tmp_path / "train" / "b.png").write_bytes(data[: len(data) // 2])
    code, lines, warnings, faults = check(capsys, path)
    assert (code, warnings) == (2, [])  # what the faulty images hold may be what lacks
    assert "all sound" not in lines
    assert [part in fault for part, fault in zip(TOLD, faults, strict=True)] == [True] * len(TOLD), faults


TOLD = (
    "a.png: expected an image and an annotation of one size, found 40x30 and 40x31",
    "b.png: expected an image, found a file that is cut off or damaged",
    "n00.png: expected ids of label space 's', found 9; add them to the label space",
    "n01.png: expected ids",
    "n02.png: expected ids",
    "d train: 17 more faults like the last, in ",
)


@pytest.mark.parametrize(("skip", "code"), [("false", 2), ("true", 0)])
def test_faulty_annotation(tmp_path, capsys, skip, code):
    rows = COLUMNS + "a,5,5,9,9,7\na,5,5,5,9,7\nc,1,1,9,9,7\n"
    path = write(tmp_path, SIGNS, {"boxes": "boxes.csv", "skip_faulty": skip}, AROUND, boxes=rows)
    status, _, warnings, faults = check(capsys, path)
    assert status == code
    assert any("boxes.csv:3" in line and "expected a box with an area" in line for line in (*warnings, *faults))
    assert bool(faults) == (code == 2)
