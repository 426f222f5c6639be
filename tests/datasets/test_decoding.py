"""Decoding: images and masks of every kind, and files that are no use."""

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from heteroseg.datasets import list_items, read_annotation, read_image, read_mask, read_sample
from heteroseg.datasets.encoding import write_ids, write_image
from heteroseg.datasets.sample import Item, Shape
from heteroseg.datasets.shapes import rle_encode
from heteroseg.files import write_json
from tests.datasets.test_datasets import SIZE, faults_of, sample, samples
from tests.writers import WRITERS
from tests.writers.pixels import bars, turned

COLORS = np.array([[0, 0, 0], [128, 64, 128], [0, 0, 192]], np.uint8)
PALETTE = np.column_stack([COLORS, np.arange(3)])


def test_images_of_all_kinds_become_rgb(tmp_path):
    rgb = sample("a", [0]).image
    grey, path = rgb[..., 0], tmp_path / "x.png"
    alpha = np.dstack([rgb, rgb[..., 2]])
    for pixels, want in (
        (rgb, rgb),
        (grey, np.dstack([grey] * 3)),
        (alpha, rgb),
        (np.dstack([grey, grey]), np.dstack([grey] * 3)),
    ):
        Image.fromarray(pixels).save(path)
        assert np.array_equal(read_image(path), want)
    for deep in (
        rgb[..., ::-1].astype(np.uint16) * 257,
        np.minimum(rgb[..., ::-1].astype(np.uint32) * 257 + 100, 65535).astype(np.uint16),
    ):
        assert cv2.imwrite(str(path), deep)
        assert np.array_equal(read_image(path), rgb)
    assert cv2.imwrite(str(path), grey.astype(np.uint16) * 257)
    assert np.array_equal(read_image(path), np.dstack([grey] * 3))
    Image.fromarray(grey > 99).save(path)
    assert np.array_equal(read_image(path)[..., 1], (grey > 99) * np.uint8(255))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_images_are_read_upright_as_pillow_turns_them(tmp_path, suffix, orientation):
    image, path = sample("a", [0]).image, tmp_path / f"x{suffix}"
    turned(path, image, orientation)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    assert np.array_equal(read_image(path), shown)
    assert suffix == ".jpg" or np.array_equal(shown, image)
    assert read_annotation(Item("x", path)).image.shape[:2] == shown.shape[:2]


@pytest.mark.parametrize("orientation", range(2, 9))
def test_the_size_of_the_annotation_decides_how_an_image_lies(tmp_path, orientation):
    image, path = sample("a", [0]).image, tmp_path / "x.png"
    turned(path, image, orientation)
    stored = np.asarray(Image.open(path))
    sides = orientation >= 5  # only then the size tells
    write_ids(tmp_path / "upright.png", np.zeros(image.shape[:2], np.int64))
    write_ids(tmp_path / "stored.png", np.zeros(stored.shape[:2], np.int64))
    upright, as_stored = (Item("x", path, tmp_path / f"{name}.png") for name in ("upright", "stored"))
    got = read_sample(upright)
    assert np.array_equal(got.image, image)
    assert "EXIF" in got.notes[0]
    assert np.array_equal(read_sample(as_stored).image, stored if sides else image)
    assert np.array_equal(read_sample(replace(as_stored, upright=False)).image, stored)
    boxed = Item("x", path, boxes=np.array([[0, 0, 30, 30]], np.float32), box_ids=np.array([1]))
    assert np.array_equal(read_sample(boxed).image, image)
    width, height = stored.shape[1::-1]
    assert np.array_equal(read_sample(replace(boxed, size=(width, height))).image, stored if sides else image)
    assert np.array_equal(read_sample(replace(boxed, boxes=boxed.boxes / 99, parts=True)).image, image)
    parts = replace(boxed, boxes=boxed.boxes / 99, parts=True, size=(width * 3, height * 3))
    assert np.array_equal(read_sample(parts).image, stored if sides else image)


def test_annotation_for_another_size_is_told(tmp_path):
    image = sample("a", [0]).image
    write_image(tmp_path / "x.png", image)
    boxed = Item("x", tmp_path / "x.png", box_file=tmp_path / "b.json", boxes=np.array([[0, 0, 9, 9]], np.float32))
    for size in ((106, 74), (53, 38), (37, 53)):
        (fault,) = faults_of(read_sample, replace(boxed, size=size))
        assert "53x37 and" in fault
        assert "b.json" in fault
    parts = replace(boxed, boxes=boxed.boxes / 99, parts=True)
    assert read_sample(replace(parts, size=(106, 74))).boxes.shape == (1, 4)
    (fault,) = faults_of(read_sample, replace(parts, size=(100, 100)))
    assert "100x100" in fault


def grey_png(mask: np.ndarray, bits: int) -> bytes:
    """A grey PNG of 1, 2 or 4 bits a pixel, which neither OpenCV nor Pillow writes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    digits = (mask[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    rows = np.packbits(digits.reshape(len(mask), -1), axis=1)
    head = struct.pack(">IIBBBBB", mask.shape[1], mask.shape[0], bits, 0, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_masks_of_few_bits(tmp_path, bits):
    mask = sample("a", range(2**bits)).mask
    (tmp_path / "grey.png").write_bytes(grey_png(mask, bits))
    assert np.array_equal(read_mask(tmp_path / "grey.png"), mask)
    palette = Image.fromarray(mask.astype(np.uint8)).convert("P")
    palette.putpalette([7, 77, 177] * 256)
    palette.save(tmp_path / "palette.png", bits=bits)
    assert np.array_equal(read_mask(tmp_path / "palette.png"), mask)


def test_masks_of_many_bits(tmp_path):
    mask = sample("a", [0, 255, 256, 65535]).mask
    assert cv2.imwrite(str(tmp_path / "16.png"), mask.astype(np.uint16))
    assert np.array_equal(read_mask(tmp_path / "16.png"), mask)
    assert cv2.imwrite(str(tmp_path / "32.tif"), mask * 1000)
    assert np.array_equal(read_mask(tmp_path / "32.tif"), mask * 1000)


def test_colour_masks(tmp_path):
    mask, path = sample("a", [0, 1, 2]).mask, tmp_path / "m.png"
    colors = COLORS[mask]
    as_palette = Image.fromarray(mask.astype(np.uint8)).convert("P")
    as_palette.putpalette(COLORS.tobytes())
    for image in (Image.fromarray(colors), Image.fromarray(np.dstack([colors, mask.astype(np.uint8)])), as_palette):
        image.save(path)
        assert np.array_equal(read_mask(path, PALETTE), mask)
    colors[5, 9] = 1, 2, 3
    Image.fromarray(colors).save(path)
    (fault,) = faults_of(read_mask, path, PALETTE)
    assert all(part in fault for part in (str(path), "(1, 2, 3)", "x=9, y=5"))
    (fault,) = faults_of(read_mask, path)  # without a palette
    assert str(path) in fault
    Image.fromarray(colors).save(tmp_path / "m.jpg")
    assert "JPEG" in faults_of(read_mask, tmp_path / "m.jpg", PALETTE)[0]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".ppm"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.95])
def test_a_cut_image_is_told(tmp_path, suffix, kept):
    path = tmp_path / f"x{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)).save(path)
    assert read_image(path).shape == (200, 300, 3)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    (fault,) = faults_of(read_image, path)
    assert str(path) in fault


def test_palette_masks_and_images_of_any_size(tmp_path, monkeypatch):
    """Pillow refuses to open what has twice as many pixels as its bound, which is 179 million."""
    ids = np.random.default_rng(0).integers(0, 4, (48, 64), np.uint8)
    image = Image.fromarray(ids)
    image.putpalette([9, 9, 9, 5, 5, 5, 7, 7, 7, 3, 3, 3] * 64)
    image.save(tmp_path / "mask.png")
    image.convert("RGB").save(tmp_path / "image.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(tmp_path / "mask.png")
    item = Item("a", tmp_path / "image.png", tmp_path / "mask.png")
    assert (read_sample(item).mask == ids).all()
    assert (read_sample(item).image[..., 0] == np.array([9, 5, 7, 3])[ids]).all()


def test_a_cut_palette_mask_is_told(tmp_path):
    WRITERS["vistas"](tmp_path, "training", samples(["a"], range(66)))
    (item,) = list_items("vistas", tmp_path, "training")
    item.mask.write_bytes(item.mask.read_bytes()[:-600])
    (fault,) = faults_of(read_sample, item)
    assert str(item.mask) in fault
    (fault,) = faults_of(read_sample, replace(item, image=tmp_path / "gone.jpg"))
    assert str(tmp_path / "gone.jpg") in fault


def test_sizes_must_agree(tmp_path):
    item = Item("a", tmp_path / "a.png", tmp_path / "m.png")
    assert cv2.imwrite(str(item.image), np.zeros((10, 20, 3), np.uint8))
    assert cv2.imwrite(str(item.mask), np.zeros((20, 10), np.uint8))
    (fault,) = faults_of(read_sample, item)
    assert all(part in fault for part in (str(item.image), str(item.mask), "20x10", "10x20"))


def test_scoring_masks_hold_ids_beside_colour_masks(tmp_path):
    item = Item("a", tmp_path / "a.png", tmp_path / "m.png", palette=PALETTE, scoring_mask=tmp_path / "s.png")
    assert cv2.imwrite(str(item.image), np.zeros((4, 4, 3), np.uint8))
    Image.fromarray(np.full((4, 4, 3), COLORS[2])).save(item.mask)
    assert cv2.imwrite(str(item.scoring_mask), np.full((4, 4), 2001, np.uint16))
    assert np.unique(read_sample(item).mask).tolist() == [2]
    assert np.unique(read_sample(item, scoring=True).mask).tolist() == [2001]
    assert np.unique(read_sample(replace(item, scoring_mask=None), scoring=True).mask).tolist() == [2]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".ppm"])
def test_an_annotation_is_read_without_its_photograph(tmp_path, suffix):
    (wrote,) = samples(["a"], [0, 7], (((1, 2, 30, 20, 3),),))
    item = Item("a", tmp_path / f"a{suffix}", tmp_path / "m.png", wrote.boxes, wrote.box_ids)
    Image.fromarray(wrote.image).save(item.image)
    assert cv2.imwrite(str(item.mask), wrote.mask.astype(np.uint8))
    whole, annotation = read_sample(item), read_annotation(item)
    assert annotation.image.shape == (*SIZE, 0)
    for key in ("mask", "boxes", "box_ids", "tags"):
        assert np.array_equal(getattr(annotation, key), getattr(whole, key))
    assert (annotation.name, annotation.file) == (whole.name, whole.file) == ("a", item.mask)
    item.image.write_bytes(item.image.read_bytes()[:-200])  # the head is enough
    assert np.array_equal(read_annotation(item).mask, wrote.mask)
    assert str(item.image) in faults_of(read_sample, item)[0]
    assert read_annotation(replace(item, mask=None)).file == item.image
    assert cv2.imwrite(str(item.mask), np.zeros((20, 10), np.uint8))
    assert str(item.mask) in faults_of(read_annotation, item)[0]
    item.image.write_bytes(b"no image")
    assert str(item.image) in faults_of(read_annotation, item)[0]


BIG = [0, 255, 65536, 2**24 + 1, 2**24 + 2, 2**31 - 1]


def as_tiff(folder: Path, mask: np.ndarray) -> Item:
    assert cv2.imwrite(str(folder / "m.tif"), mask)
    return Item("a", folder / "a.png", folder / "m.tif")


def as_colours(folder: Path, mask: np.ndarray) -> Item:
    colors = np.array([[i, 255 - i, 7 * i] for i in range(len(BIG))], np.uint8)
    Image.fromarray(colors[np.searchsorted(BIG, mask)]).save(folder / "m.png")
    return Item("a", folder / "a.png", folder / "m.png", palette=np.column_stack([colors, BIG]))


def as_panoptic(folder: Path, mask: np.ndarray) -> Item:
    numbers = 2**24 - 1 - np.searchsorted(BIG, mask)
    pixels = np.stack([numbers & 255, numbers >> 8 & 255, numbers >> 16], -1).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "m.png")
    colors = np.array([[255 - i, 255, 255] for i in range(len(BIG))])
    return Item("a", folder / "a.png", folder / "m.png", palette=np.column_stack([colors, BIG]))


def as_shapes(folder: Path, mask: np.ndarray) -> Item:
    shapes = tuple(Shape(i, (), rle_encode(mask == i)) for i in BIG)
    return Item("a", folder / "a.png", folder / "m.json", shapes=shapes)


def as_labelled_polygons(folder: Path, mask: np.ndarray) -> Item:
    names = {f"label {i}": i for i in BIG}
    rows = [{"label": f"label {i}", "polygon": [[x1, y], [x2 - 1, y], [x2 - 1, y]]} for i, x1, x2, y in bars(mask)]
    write_json(folder / "m.json", {"imgHeight": SIZE[0], "imgWidth": SIZE[1], "objects": rows})
    return Item("a", folder / "a.png", folder / "m.json", polygon_ids=names)


@pytest.mark.parametrize("store", [as_tiff, as_colours, as_panoptic, as_shapes, as_labelled_polygons])
def test_ids_of_any_size_are_read(tmp_path, store):
    """Ids above 2**24 too, which no float32 holds."""
    wrote = sample("a", BIG)
    Image.fromarray(wrote.image).save(tmp_path / "a.png")
    read = read_sample(store(tmp_path, wrote.mask))
    assert read.mask.dtype == np.int32
    assert np.array_equal(read.mask, wrote.mask)


def test_ids_of_boxes_and_tags_of_any_size_are_read(tmp_path):
    WRITERS["folder"](tmp_path, "train", samples(["a"], [0]), masks=None)
    (tmp_path / "b.csv").write_text("image,x1,y1,x2,y2,class_id\n" + "".join(f"a,1,1,9,9,{i}\n" for i in BIG))
    (tmp_path / "t.csv").write_text("image,class_id\n" + "".join(f"a,{i}\n" for i in BIG))
    options = {"images": "images/{split}/{name}.png", "boxes": "b.csv", "tags": "t.csv"}
    read = read_sample(list_items("folder", tmp_path, "train", options)[0])
    assert read.box_ids.tolist() == read.tags.tolist() == BIG


def test_ids_that_do_not_fit_are_told(tmp_path):
    Image.fromarray(np.full(SIZE, 2**31 + 5, np.uint32)).save(tmp_path / "m.tif")
    assert str(2**31 - 1) in faults_of(read_mask, tmp_path / "m.tif")[0]
