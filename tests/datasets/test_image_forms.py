"""Images and masks in every form that Pillow or OpenCV writes: read as the other reads them, whole or damaged.

What a file has no checksum for (BMP, PPM, WebP, JPEG, TIFF that is not deflated) can be damaged so that nobody knows.
"""

import io
import struct
import zlib
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from heteroseg.datasets import read_image, read_mask, read_sample
from heteroseg.datasets.sample import Item
from heteroseg.errors import HeterosegError
from tests.datasets.test_datasets import faults_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of damaged tags
SIDES = st.tuples(st.integers(1, 20), st.integers(1, 20))
LZW, DEFLATE, PACKBITS = "tiff_lzw", "tiff_adobe_deflate", "packbits"
FLIPS = 300


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def by_opencv(pixels: np.ndarray, suffix: str) -> bytes:
    done, data = cv2.imencode(suffix, pixels)
    assert done
    return data.tobytes()


def grey(ids: np.ndarray, kind: str, dtype=np.uint8, **options) -> bytes:
    return saved(Image.fromarray(ids.astype(dtype)), kind, **options)


def bilevel(ids: np.ndarray, kind: str, **options) -> bytes:
    return saved(Image.fromarray(ids == 1), kind, **options)


def indexed(ids: np.ndarray, kind: str, colors: int = 0, **options) -> bytes:
    """With a palette, a grey one by default, in which the ids have other values."""
    image = Image.frombytes("P", ids.shape[::-1], ids.astype(np.uint8).tobytes())
    image.putpalette([(v * 37 + c * colors) % 256 for v in range(256) for c in range(3)])
    return saved(image, kind, **options)


def few_bits(ids: np.ndarray, bits: int) -> bytes:
    """A grey TIFF of 2 or 4 bits a pixel, which neither Pillow nor OpenCV writes."""
    lines = np.unpackbits(ids.astype(np.uint8)[..., None], axis=-1)[..., 8 - bits :].reshape(len(ids), -1)
    strip, (height, width) = np.packbits(lines, axis=1).tobytes(), ids.shape
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: len(strip)}
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()]
    end = 8 + len(strip) + len(strip) % 2
    head, padding = struct.pack("<4sI", b"II*\0", end), bytes(len(strip) % 2)
    return head + strip + padding + struct.pack("<H", len(tags)) + b"".join(entries) + bytes(4)


# form -> the greatest id that it is tried with, how the file is written, and whether damage to it is always seen
MASKS = {
    "png": (255, partial(grey, kind="PNG"), True),
    "png, 16 bits": (65535, partial(grey, kind="PNG", dtype=np.uint16), True),
    "png, 1 bit": (1, partial(bilevel, kind="PNG"), True),
    "png, grey palette": (255, partial(indexed, kind="PNG"), True),
    "png, palette of 4 bits": (15, partial(indexed, kind="PNG", colors=5, bits=4), True),
    "png, palette with transparency": (255, partial(indexed, kind="PNG", transparency=1), True),
    "png by opencv": (65535, lambda ids: by_opencv(ids.astype(np.uint16), ".png"), True),
    "bmp": (255, partial(grey, kind="BMP"), False),
    "bmp, 1 bit": (1, partial(bilevel, kind="BMP"), False),
    "bmp, grey palette": (255, partial(indexed, kind="BMP"), False),
    "bmp, palette": (255, partial(indexed, kind="BMP", colors=5), False),
    "tiff": (255, partial(grey, kind="TIFF"), False),
    "tiff, 16 bits": (65535, partial(grey, kind="TIFF", dtype=np.uint16, compression=LZW), False),
    "tiff, 32 bits": (2**31 - 1, partial(grey, kind="TIFF", dtype=np.int32, compression=DEFLATE), False),
    "tiff, 1 bit": (1, partial(bilevel, kind="TIFF", compression="group4"), False),
    "tiff, 2 bits": (3, partial(few_bits, bits=2), False),
    "tiff, 4 bits": (15, partial(few_bits, bits=4), False),
    "tiff, palette": (255, partial(indexed, kind="TIFF", colors=5, compression=PACKBITS), False),
    "tiff, grey palette": (255, partial(indexed, kind="TIFF", compression=LZW), False),
    "tiff by opencv": (65535, lambda ids: by_opencv(ids.astype(np.uint16), ".tif"), False),
    "pgm": (255, partial(grey, kind="PPM"), False),
    "pgm by opencv": (65535, lambda ids: by_opencv(ids.astype(np.uint16), ".pgm"), False),
}
PHOTOS = [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": LZW}), ("TIFF", {"compression": DEFLATE})]
PHOTOS += [("PPM", {}), ("WEBP", {"lossless": True}), ("WEBP", {"quality": 80}), ("JPEG", {"quality": 90})]
MODES = {"JPEG": ["L", "RGB", "CMYK"], "BMP": ["1", "L", "P", "RGB", "RGBA"], "PPM": ["1", "L", "RGB"]}
MODES |= {"WEBP": ["L", "RGB", "RGBA"]}
ANY_MODE = ["1", "L", "P", "LA", "RGB", "RGBA"]


def outcome(read, path: Path, data: bytes) -> np.ndarray | None:
    """What is read from a file of these bytes; None where it is refused."""
    path.write_bytes(data)
    try:
        return read(path)
    except HeterosegError:
        return None


@pytest.mark.parametrize("form", MASKS)
@given(data=st.data())
def test_masks_of_every_form_give_their_ids_or_are_refused(form, data, tmp_path_factory):
    most, encode, _ = MASKS[form]
    ids = data.draw(arrays(np.int64, SIDES, elements=st.integers(0, most)))
    path = tmp_path_factory.getbasetemp() / "mask.png"
    assert np.array_equal(outcome(read_mask, path, encode(ids)), ids)


@given(data=st.data())
def test_photographs_of_every_form_are_read_as_pillow_reads_them(data, tmp_path_factory):
    kind, options = data.draw(st.sampled_from(PHOTOS))
    mode = data.draw(st.sampled_from(MODES.get(kind, ANY_MODE)))
    pixels = data.draw(arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3))))
    encoded = saved(Image.fromarray(pixels).convert(mode), kind, **options)
    got = outcome(read_image, tmp_path_factory.getbasetemp() / "image.png", encoded)
    want = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB")).astype(int)
    assert np.abs(got - want).max(initial=0) <= (mode == "CMYK")  # which they round otherwise


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_photographs_of_few_bits_are_stretched(tmp_path, bits):
    values = np.arange(2**bits)[None]
    got = outcome(read_image, tmp_path / "a.tif", few_bits(values, bits))
    assert np.array_equal(got[..., 0], values * (255 // (2**bits - 1)))


@pytest.mark.parametrize(
    "encoded",
    [
        b"P5 3 1 1023\n" + np.array([0, 512, 1023], ">u2").tobytes(),
        b"P5 # by hand\n3 1 20\n" + bytes([0, 10, 20]),
        grey(np.array([[0, 8192, 16383]]), "TIFF", np.uint16, tiffinfo={281: 16383}),
        grey(np.array([[0, 512, 1023]]), "TIFF", np.uint16, tiffinfo={281: (1023,) * 3}),
    ],
)
def test_the_value_that_a_file_calls_white_is_white(tmp_path, encoded):
    (tmp_path / "a").write_bytes(encoded)
    sample = read_sample(Item("a", tmp_path / "a"))
    assert (sample.image[0, :, 0].tolist(), sample.notes) == ([0, 128, 255], ())


@pytest.mark.parametrize(
    ("top", "note"),
    [
        (1000, "of 16 bits, of which 10 are used, read as 12, so perhaps too dark"),
        (4000, "of 16 bits, of which 12 are used, read as 12"),
        (16000, "of 16 bits, of which 14 are used, read as 16, so perhaps too dark"),
        (65000, None),
    ],
)
def test_bits_that_are_not_used_are_told(tmp_path, top, note):
    (tmp_path / "a").write_bytes(grey(np.array([[0, top]]), "PNG", np.uint16))
    assert read_sample(Item("a", tmp_path / "a")).notes == ((note,) if note else ())


def test_a_mask_of_12_packed_bits_is_refused(tmp_path):
    packed = few_bits(np.array([[0, 1, 2]] * 2), 4).replace(
        struct.pack("<HHII", 258, 4, 1, 4), struct.pack("<HHII", 258, 4, 1, 12)
    )
    (tmp_path / "m.tif").write_bytes(
        packed.replace(struct.pack("<HHII", 256, 4, 1, 3), struct.pack("<HHII", 256, 4, 1, 1))
    )
    assert "12 bits a pixel" in faults_of(read_mask, tmp_path / "m.tif")[0]


@given(data=st.data())
def test_deep_photographs_keep_their_upper_bits(data, tmp_path_factory):
    pixels = data.draw(arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
    suffix = data.draw(st.sampled_from([".png", ".tif", ".ppm"]))
    got = outcome(read_image, tmp_path_factory.getbasetemp() / "deep.png", by_opencv(pixels[..., ::-1].copy(), suffix))
    assert np.array_equal(got, np.rint(pixels * (255 / (65535 if pixels.max() > 4095 else 4095))).astype(np.uint8))


@given(data=st.data())
def test_changed_files_are_read_or_refused(data, tmp_path_factory):
    """A part of a file is lost, doubled, or other bytes: no traceback, and no other ids where there are checksums."""
    form = data.draw(st.sampled_from(sorted(MASKS)))
    most, encode, checked = MASKS[form]
    ids = data.draw(arrays(np.int64, SIDES, elements=st.integers(0, min(most, 5))))
    whole = encode(ids)
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(whole))] * 2)))
    middle = data.draw(st.sampled_from([b"", whole[start:stop] * 2]) | st.binary(max_size=9))
    path = tmp_path_factory.getbasetemp() / "changed.png"
    got = outcome(read_mask, path, whole[:start] + middle + whole[stop:])
    outcome(read_image, path, path.read_bytes())
    assert got is None or not checked or np.array_equal(got, ids)


@pytest.mark.parametrize("form", [*MASKS, *(f"{kind} {options}" for kind, options in PHOTOS)])
def test_flipped_bits_are_read_or_refused(tmp_path, form):
    rng = np.random.default_rng(0)
    ids = np.kron(rng.integers(0, 2, (6, 8)), np.ones((4, 4), np.int64))
    if form in MASKS:
        _, encode, checked = MASKS[form]
        whole, read = encode(ids), read_mask
    else:
        kind, options = next(photo for photo in PHOTOS if form == f"{photo[0]} {photo[1]}")
        whole = saved(Image.fromarray(np.uint8(np.dstack([ids, 1 - ids, ids]) * 99)), kind, **options)
        read, checked = read_image, kind == "PNG"
    want = outcome(read, tmp_path / "x", whole)
    for place in rng.integers(0, len(whole) * 8, FLIPS).tolist():
        data = bytearray(whole)
        data[place // 8] ^= 1 << place % 8
        got = outcome(read, tmp_path / "x", bytes(data))
        assert got is None or not checked or np.array_equal(got, want), place


def test_deflated_tiffs_are_read_with_their_checksum(tmp_path):
    ids = np.random.default_rng(0).integers(0, 5, (9, 11))
    whole = grey(ids, "TIFF", compression=DEFLATE)
    tags = Image.open(io.BytesIO(whole)).tag_v2
    start, size = tags[273][0], tags[279][0]
    for place in range(start * 8, (start + size) * 8):
        data = bytearray(whole)
        data[place // 8] ^= 1 << place % 8
        got = outcome(read_mask, tmp_path / "x.tif", bytes(data))
        assert got is None or np.array_equal(got, ids), place


def tiff(strip: bytes, width: int, height: int, photometric: int) -> bytes:
    """A grey TIFF of 8 bits by its specification; Pillow writes none with 0 as white."""
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height, 279: len(strip)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return struct.pack("<2sHI", b"II", 42, 8 + len(strip)) + strip + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_tiffs_whose_ids_are_not_sure_are_refused(tmp_path):
    path, strip = tmp_path / "x.tif", bytes(range(6))
    assert outcome(read_mask, path, tiff(strip, 3, 2, 1)).ravel().tolist() == list(range(6))
    path.write_bytes(tiff(strip, 3, 2, 0))
    assert "0 as white" in faults_of(read_mask, path)[0]
    pages = [Image.fromarray(np.full((4, 4), i, np.uint8)) for i in (1, 2)]
    path.write_bytes(saved(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    assert "several images" in faults_of(read_mask, path)[0]
    assert outcome(read_image, path, path.read_bytes()).max() == 1
    path.write_bytes(saved(pages[0], "TIFF", compression="jpeg"))
    assert "lossy" in faults_of(read_mask, path)[0]


@pytest.mark.parametrize(("width", "height"), [(65_501, 20), (20, 65_501), (40_000, 40_000)])
@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "tif", "ppm"])
def test_images_that_are_too_large_are_told_for_what_they_are(tmp_path, ending, width, height):
    """By their heads, before anything is decoded."""
    path = tmp_path / f"a.{ending}"
    path.write_bytes(head_of(ending, width, height))
    with pytest.raises(
        HeterosegError, match=f"at most 268435456 pixels and 65500 a side, found {width} x {height}; cut"
    ):
        read_image(path)


def head_of(ending: str, width: int, height: int) -> bytes:
    """A small image of this kind whose head states another size."""
    if ending == "tif":
        tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: 8}
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
        return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    data = bytearray(saved(Image.new("RGB", (17, 13)), {"jpg": "JPEG", "ppm": "PPM"}.get(ending, ending)))
    if ending == "png":
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    elif ending == "bmp":
        data[18:26] = struct.pack("<II", width, height)
    elif ending == "jpg":
        place = data.index(b"\x08\x00\x0d\x00\x11")
        data[place + 1 : place + 5] = struct.pack(">HH", height, width)
    return bytes(data) if ending != "ppm" else bytes(data).replace(b"17 13", b"%d %d" % (width, height), 1)


def test_alpha_of_a_tiff_does_not_darken_its_colours(tmp_path):
    image = Image.new("RGBA", (9, 7), (200, 100, 50, 64))
    for packed in ({}, {"compression": "tiff_lzw"}):
        image.save(tmp_path / "a.tif", **packed)
        assert (read_image(tmp_path / "a.tif") == (200, 100, 50)).all()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "an empty file; get it again"),
        (b"\0\0\0\x18ftypheic" + bytes(99), "HEIC, as iPhones write it; convert it to JPEG"),
        (b"\n<!DOCTYPE html><html>404", "a web page; download the image itself"),
        (b"<HTML>", "a web page; download the image itself"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of git-lfs; fetch the file by git lfs pull"),
    ],
)
def test_what_is_no_image_is_named(tmp_path, data, told):
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(HeterosegError, match=f"a.jpg: expected an image, found {told}$"):  # was "cut off or damaged"
        read_image(tmp_path / "a.jpg")
