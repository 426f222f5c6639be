"""Files of datasets from strangers: bombs, files that never end, and names that climb are refused at once."""

import io
import json
import os
import struct
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from heteroseg.cli.main import main
from heteroseg.datasets import list_items, read_image, read_mask
from heteroseg.datasets.boxes import NO_OUTLINE
from heteroseg.datasets.coco_json import coco_outline
from heteroseg.datasets.formats.label_studio import unpack_brush
from heteroseg.datasets.records import csv_records
from heteroseg.datasets.sample import LARGEST
from heteroseg.errors import HeterosegError
from heteroseg.experiment.config import load_experiment
from heteroseg.files import read_json, read_yaml

SECONDS = 30  # of the processor: without a bound each of these takes minutes, or all memory


@contextmanager
def refused(said: str = "") -> Iterator[None]:
    start = time.process_time()
    with pytest.raises(HeterosegError, match=said) as caught:
        yield
    assert time.process_time() - start < SECONDS
    assert not any("\n" in fault for fault in caught.value.faults)
    assert len(caught.value.faults[0]) < 800


def png(width: int, height: int, bits: int = 8, color: int = 0) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


def tiff(width: int, height: int, bits: int = 8, samples: int = 1) -> bytes:
    tags = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, samples)]
    tags += [(278, 4, height), (279, 4, 100)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<I", 108) + bytes(100) + struct.pack("<H", len(tags)) + entries + bytes(4)


JPEG = b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03\x01\x22\0\x02\x11\x01\x03\x11\x01"
JPEG += b"\xff\xda\0\x0c\x03\x01\0\x02\x11\x03\x11"
WEBP = b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff" * 6 + b"VP8 "
BMP = b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 60000, 60000, 1, 24, *[0] * 6)
IMAGES = {
    "a.png": png(100_000, 100_000),
    "b.png": png(2**31 - 1, 2**31 - 1, 16, 6),
    "c.png": png(16385, 16384, 8, 3),
    "a.bmp": BMP + bytes(100),
    "a.pgm": b"P5 99999 99999 255\n" + bytes(100),
    "b.pgm": b"P5 " + b"9" * 5000 + b" 5 255\n" + bytes(100),
    "a.jpg": JPEG + b"\0\x3f\0" + bytes(100) + b"\xff\xd9",
    "a.webp": b"RIFF"
    + struct.pack("<I", 30)
    + b"WEBPVP8X"
    + struct.pack("<I", 10)
    + bytes(4)
    + b"\xff" * 6
    + b"VP8 "
    + bytes(4),
    "a.tif": tiff(100_000, 100_000),
    "b.tif": tiff(2**31, 2**31, 16, 3),
    "radiance.png": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 30000 +X 30000\n" + bytes(100),
    "pam.png": b"P7\nWIDTH 90000\nHEIGHT 90000\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n" + bytes(100),
    "sun.png": struct.pack(">8I", 0x59A66A95, 60000, 60000, 24, 0, 1, 0, 0) + bytes(100),
}


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("read", [read_image, read_mask])
def test_heads_of_images_that_take_all_memory(tmp_path, name, read):
    (tmp_path / name).write_bytes(IMAGES[name])
    with refused(r"pixels and 65500 a side, found \d+ x|cut off or damaged|found a JPEG"):
        read(tmp_path / name)


def test_palette_masks_of_190_megapixels_are_right(tmp_path):
    from PIL import Image

    image = Image.new("P", (19_000, 10_000))
    image.putpalette([0, 0, 0, 9, 9, 9])
    image.save(tmp_path / "a.png", compress_level=1)
    assert read_mask(tmp_path / "a.png").shape == (10_000, 19_000)
    assert LARGEST > 19_000 * 10_000


READERS: dict[str, Callable[[Path], object]] = {
    "image": read_image,
    "mask": read_mask,
    "YAML": read_yaml,
    "JSON": read_json,
    "table": lambda path: list(csv_records(path, ("a",))),
}


@pytest.mark.parametrize("read", READERS.values(), ids=list(READERS))
def test_pipes_devices_circles_and_sparse_files(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "device", "circle", "folder", "nothing"):
        with refused("cannot be read|expected a file, found"):
            read(tmp_path / name)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**40)
    with refused("found"):
        read(tmp_path / "sparse")


TEXTS = {
    "brackets": b"[" * 100_000,
    "braces": b'{"a":' * 100_000,
    "digits": b'{"a": ' + b"9" * 5000 + b"}",
    "hexadecimal": b"a: 0x" + b"f" * 10**6,
    "sixties": b"a: 1" + b":1" * 10**5,
    "keys": b"? " * 100_000 + b"a",
    "many parts": b"a: [" + b"1," * 3_000_000 + b"1]",
    "a bomb": b"a: &a [1,1,1,1,1,1,1,1,1]\n"
    + b"".join(b"%c: &%c [%s]\n" % (98 + i, 98 + i, b",".join([b"*%c" % (97 + i)] * 9)) for i in range(20)),
    "merges": b"a: &a {"
    + b",".join(b"k%d: 1" % i for i in range(1000))
    + b"}\n"
    + b"".join(b"b%d:\n  <<: *a\n" % i for i in range(3000)),
}


@pytest.mark.parametrize("content", TEXTS.values(), ids=list(TEXTS))
def test_texts_that_take_for_ever(tmp_path, content):
    (tmp_path / "a.yaml").write_bytes(content)
    with refused():
        load_experiment(tmp_path / "a.yaml")
    if content.startswith((b"[", b"{")):
        with refused():
            read_json(tmp_path / "a.yaml")


def test_a_field_of_a_table_is_bounded(tmp_path):
    (tmp_path / "a.csv").write_text('a,b\n1,"' + "x" * 2**27 + '"\n')
    with refused("a line of more than"):
        list(csv_records(tmp_path / "a.csv", ("a", "b")))


@pytest.mark.parametrize("value", ["train.batch=1000000000", "model.width=1000000000", "train.crop=[1000000000, 64]"])
def test_sizes_of_an_experiment(tmp_path, value):
    (tmp_path / "a.yaml").write_text("name: a\ntaxonomy: t\ndatasets: {a: {root: a, reader: folder, label_space: a}}\n")
    with refused("less than or equal to 16384"):
        load_experiment(tmp_path / "a.yaml", [value])


@pytest.mark.parametrize("size", [[2**20, 2**20], [10**30, 10**30], [1, 2**40], [2**63, 1]])
@pytest.mark.parametrize("counts", [[2**31 - 1, 1], "0" * 10, [0]])
def test_run_lengths_that_decode_to_all_memory(size, counts):
    assert coco_outline({"size": size, "counts": counts}, None) == NO_OUTLINE
    assert coco_outline({"size": size, "counts": counts}, (size[1], size[0])) == NO_OUTLINE


@pytest.mark.parametrize("total", [2**32 - 1, 4 * LARGEST + 4])
def test_brushes_that_decode_to_all_memory(total):
    with pytest.raises(ValueError, match="too long"):
        unpack_brush(total.to_bytes(4, "big") + b"\x3a\x80" + bytes(20))


def photographs(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(_photograph())


def _photograph() -> bytes:
    from PIL import Image

    data = io.BytesIO()
    Image.new("L", (8, 8), 1).save(data, "PNG")
    return data.getvalue()


def coco(root: Path, name: str) -> None:
    photographs(root, "train2017/a.png")
    (root / "annotations").mkdir()
    note = {"image_id": 1, "file_name": name, "segments_info": []}
    data = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [note]}
    (root / "annotations" / "panoptic_train2017.json").write_text(json.dumps(data))


def nuimages(root: Path, name: str) -> None:
    photographs(root, "samples/CAM/a.png")
    (root / "v1.0-train2017").mkdir()
    tables = {"category": [], "object_ann": [], "surface_ann": [], "sample_data": [{"token": "1", "filename": name}]}
    for table, entries in (tables | {"sample": [{"token": "2", "key_camera_token": "1"}]}).items():
        (root / "v1.0-train2017" / f"{table}.json").write_text(json.dumps(entries))


def camvid_segnet(root: Path, name: str) -> None:
    photographs(root, "a.png")
    (root / "train2017.txt").write_text(f"a.png {name}\n")


def webdataset(root: Path, name: str) -> None:
    with tarfile.open(root / "train2017-0.tar", "w") as tar:
        for ending in ("jpg", "png"):
            member = tarfile.TarInfo(str(Path(name).with_suffix(f".{ending}")))
            member.size = len(_photograph())
            tar.addfile(member, io.BytesIO(_photograph()))


CLIMBING = {"coco_panoptic": coco, "nuimages": nuimages, "camvid_segnet": camvid_segnet, "webdataset": webdataset}


@pytest.mark.parametrize("name", ["../secret.png", "samples/../../secret.png", "{outside}/secret.png"])
@pytest.mark.parametrize("reader", CLIMBING)
def test_names_do_not_lead_out_of_the_root(tmp_path, reader, name):
    root = tmp_path / "root"
    root.mkdir()
    photographs(tmp_path, "secret.png")
    name = name.format(outside=tmp_path)
    if reader in ("webdataset", "camvid_segnet") and name.startswith("/"):
        pytest.skip("they take a leading slash for the root")
    CLIMBING[reader](root, name)
    with refused("points out of the folder"):
        list_items(reader, root, "train2017")


def headers(**fields: object) -> Callable[[Path], None]:
    """A tar of one member whose header says what `fields` say."""

    def write(path: Path) -> None:
        member = tarfile.TarInfo("a.jpg")
        for key, value in fields.items():
            setattr(member, key, value)
        path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))

    return write


TARS: dict[str, Callable[[Path], object]] = {
    "a member of a terabyte": headers(size=2**40),
    "a member of more": headers(size=2**62),
    "a device": headers(type=tarfile.CHRTYPE, devmajor=1, devminor=5),
    "a pipe": headers(type=tarfile.FIFOTYPE),
    "a link": headers(type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a hard link": headers(type=tarfile.LNKTYPE, linkname="/etc/passwd"),
    "a link to itself": headers(type=tarfile.LNKTYPE, linkname="a.jpg"),
    "an extended header": headers(type=tarfile.XHDTYPE, size=2**40),
    "a long name": headers(type=tarfile.GNUTYPE_LONGNAME, size=2**40),
    "a name that no disk takes": lambda path: webdataset(path.parent, "n" * 5000 + ".jpg"),
    "a sparse file": lambda path: path.open("wb").truncate(2**40),
    "packed": lambda path: path.write_bytes(b"\x1f\x8b" + zlib.compress(bytes(10**6))),
    "nothing": lambda path: path.write_bytes(b""),
    "a pipe itself": lambda path: os.mkfifo(path),
    "a device itself": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("title", TARS)
def test_archives(tmp_path, title):
    TARS[title](tmp_path / "train2017-0.tar")
    with refused():
        list_items("webdataset", tmp_path, "train2017")
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and p.name != "train2017-0.tar"]


def test_twenty_thousand_labels_are_imported(tmp_path):
    lines = [f"{i},label {i},group {i // 2}" for i in range(20_000)]
    (tmp_path / "list.csv").write_text("\n".join(["id,name,category", *lines]))
    start = time.process_time()
    command = ["taxonomy", "import", str(tmp_path / "list.csv"), "--out", str(tmp_path / "out")]
    assert main(command) == main([*command, "--name", "flat", "--flat"]) == 0
    assert time.process_time() - start < 2 * SECONDS


def test_a_network_of_a_million_layers_is_not_built():
    from heteroseg.experiment.config import ModelConfig
    from heteroseg.labels.taxonomy import load_taxonomy
    from heteroseg.networks.network import build_network

    tree = load_taxonomy("streets-real")
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "layer_type": "basic"}
    for more in ({"depths": [1, 1, 1, 10**6]}, {"depths": [1] * 4, "embedding_size": 10**9}):
        with refused():
            build_network(ModelConfig(backbone="hf:resnet", backbone_options=sizes | more), tree)
