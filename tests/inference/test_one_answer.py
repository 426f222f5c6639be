"""The same image gets the same label map, however it is stored and however it is asked."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

import heteroseg
from heteroseg.cli.main import main
from heteroseg.datasets import read_image, read_mask
from heteroseg.scenes import draw_scene

SCENE = draw_scene(np.random.default_rng(7), (64, 96)).image
GREY = np.asarray(Image.fromarray(SCENE).convert("L"))
HELD = {  # by EXIF orientation: how an upright image is stored
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
MODES = {  # as Pillow calls them, with the kinds of file that hold them
    "RGB": ("png", "jpg", "webp", "tif", "bmp", "ppm"),
    "L": ("png", "jpg", "tif", "bmp", "pgm"),
    "RGBA": ("png", "webp", "tif"),
    "LA": ("png", "tif"),
    "CMYK": ("jpg", "tif"),
    "P": ("png", "bmp", "tif"),
    "1": ("png", "bmp", "tif"),
}
LOSSLESS = {"webp": {"lossless": True, "exact": True}}


def in_mode(mode: str) -> Image.Image:
    image = Image.fromarray(SCENE)
    if mode.endswith("A"):
        image.putalpha(Image.fromarray(np.tile(np.arange(96, dtype=np.uint8) * 2, (64, 1))))
    return image.convert(mode, palette=Image.Palette.ADAPTIVE)


def netpbm(path: Path, values: np.ndarray, white: int) -> None:
    kind = b"P5" if values.ndim == 2 else b"P6"
    stored = (values.astype(int) * white + 127) // 255
    head = kind + b"\n# as a camera has it\n96 64\n%d\n" % white
    path.write_bytes(head + stored.astype("u1" if white < 256 else ">u2").tobytes())


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> dict[str, np.ndarray]:
    """Files of every kind by their paths, and the (H, W, 3) pixels that they show, by another decoder than ours."""
    folder, wanted = tmp_path_factory.mktemp("images"), {}
    for mode, endings in MODES.items():
        for ending in endings:
            path = folder / f"{mode}-{ending}.{ending}"
            in_mode(mode).save(path, **LOSSLESS.get(ending, {}))
            wanted[str(path)] = np.asarray(Image.open(path).convert("RGB"))
    for orientation, held in HELD.items():
        for mode, ending in (
            ("RGB", "jpg"),
            ("RGB", "png"),
            ("RGB", "webp"),
            ("RGB", "tif"),
            ("CMYK", "jpg"),
            ("L", "tif"),
        ):
            path, image = folder / f"{mode}-{orientation}-{ending}.{ending}", in_mode(mode).transpose(held)
            exif = image.getexif()
            exif[ExifTags.Base.Orientation] = orientation
            packed = {"compression": "tiff_lzw"} if ending == "tif" else LOSSLESS.get(ending, {})
            image.save(path, exif=exif, **packed)  # Pillow turns only packed TIFF right
            wanted[str(path)] = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    three = np.dstack([GREY] * 3)
    for white in (100, 1023, 4095, 16383, 65535):
        for name, values, shown in (("grey.pgm", GREY, three), ("rgb.ppm", SCENE, SCENE)):
            netpbm(folder / f"{white}-{name}", values, white)
            path = folder / f"{white}-{name}"  # where 255 values are kept in 100 they are not what they were
            wanted[str(path)] = shown if white > 255 else np.asarray(Image.open(path).convert("RGB"))
    opaque = np.dstack([SCENE, np.full_like(GREY, 255)])
    for name, values, shown in (
        ("grey", GREY, three),
        ("rgb", SCENE[..., ::-1], SCENE),
        ("rgba", opaque[..., [2, 1, 0, 3]], SCENE),
    ):
        for ending in ("png", "tif"):
            path = folder / f"deep-{name}-{ending}.{ending}"
            cv2.imwrite(str(path), values.astype(np.uint16) * 257)
            wanted[str(path)] = shown
    cv2.imwrite(str(folder / "twelve.png"), ((GREY.astype(int) * 4095 + 127) // 255).astype(np.uint16))
    return wanted | {str(folder / "twelve.png"): three}


Way = Callable[[str], np.ndarray]


@pytest.fixture(scope="module")
def ways(images, tiny_model, tiny_model_folder, tmp_path_factory) -> dict[str, Way]:
    """Each way to ask for the Cityscapes ids of a file."""

    def asked(model) -> Way:
        return lambda path: model.predict(path).labels("cityscapes")

    out, place = tmp_path_factory.mktemp("answers"), str(Path(next(iter(images))).parent)
    assert main(["predict", str(tiny_model_folder), place, "--out", str(out), "--labels", "cityscapes"]) == 0
    found = {
        "path": asked(tiny_model),
        "array": lambda path: tiny_model.predict(read_image(path)).labels("cityscapes"),
        "Pillow": lambda path: tiny_model.predict(Image.open(path)).labels("cityscapes"),
        "predict": lambda path: read_mask(out / f"{Path(path).stem}.png"),
    }
    for kind, ending, package in (("onnx", ".onnx", "onnxruntime"), ("openvino", ".xml", "openvino")):
        if is_there(package):
            from heteroseg.export.export import export

            export(tiny_model, out / f"network{ending}", kind)
            found[kind] = asked(heteroseg.load(out / f"network{ending}"))
    if is_there("ray"):
        from heteroseg.inference.collection import Labeller

        labeller = Labeller(str(tiny_model_folder), "cityscapes", place, str(out / "many"), "cpu", 1)
        found["predict-many"] = lambda path: read_mask(out / "many" / labeller.row(Path(path).name, "", "")["labels"])
    if is_there("fastapi"):
        found["endpoint"] = endpoint(tiny_model)
    return found


def is_there(package: str) -> bool:
    try:
        __import__(package)
    except ImportError:
        return False
    return True


def endpoint(model) -> Way:
    from fastapi.testclient import TestClient

    from heteroseg.app.bounds import Limits
    from heteroseg.app.page import build_app

    client = TestClient(build_app({"tiny": model}, Limits()), base_url="http://localhost")

    def ask(path: str) -> np.ndarray:
        reply = client.post(
            "/v1/predict?labels=cityscapes", content=Path(path).read_bytes(), headers={"accept": "image/png"}
        )
        assert reply.status_code == 200, reply.text
        return cv2.imdecode(np.frombuffer(reply.content, np.uint8), cv2.IMREAD_UNCHANGED)

    return ask


@pytest.mark.parametrize("way", ["path", "array", "Pillow", "predict", "onnx", "openvino", "predict-many", "endpoint"])
def test_every_kind_of_image(images, ways, tiny_model, way):
    if way not in ways:
        pytest.skip("an extra is not installed")
    # another runtime rounds otherwise
    least = 0.999 if way in ("onnx", "openvino") else 1.0
    for path, pixels in images.items():
        wanted = tiny_model.predict(pixels).labels("cityscapes")
        found = ways[way](path)
        assert found.shape == wanted.shape, path
        assert (found == wanted).mean() >= least, path
        assert (found == ways["path"](path)).mean() >= least, path
        assert len(np.unique(found)) > 2, path


def test_images_that_pillow_has_decoded(images, tiny_model):
    """Also those of an orientation, of 16 bits and of a palette."""
    for path, pixels in images.items():
        image = Image.open(path)
        image.load()
        found = tiny_model.predict(image).labels("cityscapes")
        assert (found == tiny_model.predict(pixels).labels("cityscapes")).mean() >= 0.99, path


def test_pillow_turns_nothing_twice(tiny_model):
    turned = Image.fromarray(SCENE).transpose(HELD[6])
    np.testing.assert_array_equal(
        tiny_model.predict(turned).nodes(), tiny_model.predict(np.asarray(turned)).nodes(), "no tag, so it stays"
    )
