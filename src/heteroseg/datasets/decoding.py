"""Decoding: from the files of an item to its pixels, ids and boxes."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from simplejpeg import decode_jpeg, decode_jpeg_header

from heteroseg.datasets.boxes import outside
from heteroseg.datasets.paths import raise_faults
from heteroseg.datasets.sample import UNKNOWN, Item, Sample, Shape
from heteroseg.datasets.shapes import draw_polygons, paint, read_polygons
from heteroseg.errors import HeterosegError

PNG, JPEG, TIFF = b"\x89PNG\r\n\x1a\n", b"\xff\xd8", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
COMPRESSION, DEFLATED, LOSSY = 259, (8, 32946), (6, 7, 34712, 50001)  # of TIFF; JPEG, JPEG 2000 and WebP are lossy
PALETTE = b"\x03"  # the 26th byte of a PNG
POINTER = b"version https://git-lfs"
ORIENTATION = 0x112  # the EXIF tag
FLIPS = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}  # steps down and across
SWAPPED = 5  # from here on rows are columns, before they are flipped
TWELVE_BITS = 4095
Size = tuple[float, float]  # width and height
Notes = tuple[str, ...]  # of an image, what it is or does, in the plural


def read_sample(item: Item, scoring: bool = False) -> Sample:
    """Decode an item: image (H, W, 3) uint8 RGB, mask (H, W) int32 ids or None, boxes clipped to the image.

    Shapes are drawn into the mask; what they leave free is the item's background, and unknown (-1) inside its boxes.
    `scoring` takes the item's scoring mask where it has one. An unreadable file, sizes that differ, a colour without
    an id, and a box or shape that stands out of the image by more than a pixel raise HeterosegError.
    """
    return _sample(item, scoring, _decode)


def read_annotation(item: Item, scoring: bool = False) -> Sample:
    """As `read_sample`, but the photograph is not decoded: only its size is read, and `image` is (H, W, 0)."""
    return _sample(item, scoring, _no_pixels)


def _no_pixels(data: bytes, path: Path, seen: "View", upright: bool) -> tuple[np.ndarray, Notes]:
    width, height = seen.size(upright)
    return np.zeros((height, width, 0), np.uint8), ()


def _sample(item: Item, scoring: bool, read: Callable[[bytes, Path, "View", bool], tuple[np.ndarray, Notes]]) -> Sample:
    data = _bytes(item.image)
    seen = view(io.BytesIO(data), item.image)
    path = item.scoring_mask if scoring and item.scoring_mask is not None else item.mask
    mask, shapes, size = _stored_mask(item, path)
    stated = [(size, path), (item.size, path if item.shapes is not None else item.box_file)]
    upright = lies_upright(item, seen, stated)
    image, notes = read(data, item.image, seen, upright)
    height, width = image.shape[:2]
    boxes = _clipped(item, height, width)
    if shapes is not None:
        mask = _painted(item, path, shapes, boxes, (height, width))
    return Sample(
        item.name, image, mask, boxes, item.box_ids, item.tags, path or item.image, item.box_file, notes=notes
    )


def _fits(stated: Size, size: tuple[int, int], parts: bool) -> bool:
    """Whether annotation for an image of the `stated` size is right on one of `size`; of parts by its proportions."""
    if parts:  # as far as whole pixels can have the same proportions
        return abs(stated[0] * size[1] - stated[1] * size[0]) <= max(*stated, *size)
    return tuple(stated) == size


def lies_upright(item: Item, seen: "View", stated: Sequence[tuple[Size | None, Path | None]]) -> bool:
    """Whether an image is turned as its EXIF orientation says: the stated size of the annotation decides, if it can.

    `stated` are the sizes that files tell. One that does not fit the image raises HeterosegError.
    """
    parts = item.parts and all(shape.run_length is None for shape in item.shapes or ())
    known = [(size, file) for size, file in stated if size is not None]
    fits = {upright: all(_fits(s, seen.size(upright), parts) for s, _ in known) for upright in (True, False)}
    upright = item.upright if fits[True] == fits[False] else fits[True]
    width, height = seen.size(upright)
    for other, file in known:
        if not _fits(other, (width, height), parts and other is item.size):
            raise HeterosegError(
                f"{item.image}: expected an image and an annotation of one size, found {width}x{height} and "
                f"{other[0]:g}x{other[1]:g} in {file or 'its annotation'}; resize the one that was changed"
            )
    return upright


def _stored_mask(item: Item, path: Path | None) -> tuple[np.ndarray | None, Sequence[Shape] | None, Size | None]:
    """(H, W) int32 ids as a file holds them, or the shapes to paint, and the width and height that they tell."""
    if path is None:
        return None, None, None
    if path != item.scoring_mask and item.shapes is not None:
        return None, item.shapes, None
    if path != item.scoring_mask and item.polygon_ids is not None:
        size, shapes, faults = read_polygons(path, item.polygon_ids)
        raise_faults(faults)
        return None, shapes, size
    if path != item.scoring_mask and item.segments is not None:
        mask = _from_segments(path, item.segments, item.background)
    else:
        mask = read_mask(path, None if path == item.scoring_mask else item.palette)
    return mask, None, mask.shape[::-1]


def _painted(
    item: Item, path: Path | None, shapes: Sequence[Shape], boxes: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """(H, W) int32 ids; the ground is the item's background, but nothing is known of what lies in a box."""
    ground = np.full(size, item.background, np.int32)
    for x1, y1, x2, y2 in np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], 1).astype(int):
        ground[y1:y2, x1:x2] = UNKNOWN
    if item.polygon_ids is not None:
        return draw_polygons(shapes, ground)
    try:
        rim = item.parts and item.size != size[::-1]  # tools put corners on pixels, but here not on these
        return paint(shapes, ground, size[::-1] if item.parts else (1, 1), rim)
    except ValueError as error:
        raise HeterosegError(f"{path}: {item.image.name}: {error}; export the file again") from None


def _from_segments(path: Path, segments: dict[int, int], background: int) -> np.ndarray:
    """COCO's panoptic colours to ids: a colour is the number of a segment, 0 is unlabelled."""
    packed = _packed(_rgb(path, _decoded(path, _bytes_of_mask(path))))
    numbers, inverse = np.unique(packed, return_inverse=True)
    unknown = [n for n in numbers.tolist() if n and n not in segments]
    if unknown:
        raise HeterosegError(
            f"{path}: expected the segments that its json lists, found number {unknown[0]} too; "
            f"take the json and the images of one release"
        )
    ids = np.array([segments[n] if n else background for n in numbers.tolist()], np.int32)
    return ids[inverse].reshape(packed.shape)


def read_image(path: Path | str, upright: bool = True) -> np.ndarray:
    """(H, W, 3) uint8 RGB, turned as its EXIF orientation says, or with `upright` False as it is stored.

    Grey becomes three channels, alpha is dropped. Of 16 bits the upper 8 are kept; of 12, where no value has more.
    """
    path = Path(path)
    return decode_image(_bytes(path), path, upright)


def decode_image(data: bytes, path: Path, upright: bool = True) -> np.ndarray:
    """As `read_image`, of the bytes of a file; `path` is told where they are no image."""
    return _decode(data, path, view(io.BytesIO(data), path), upright)[0]


def _decode(data: bytes, path: Path, seen: "View", upright: bool) -> tuple[np.ndarray, Notes]:
    """(H, W, 3) uint8 RGB, upright or as stored, and what is to be told of the image."""
    notes: Notes = ()
    pixels = _decoded_jpeg(path, data) if data.startswith(JPEG) else None
    if pixels is None:
        pixels = _decoded(path, data)
        if pixels.dtype == np.uint16:
            deep = pixels.max(initial=0) > TWELVE_BITS
            notes = () if deep else ("hold 16 bits, of which 12 are used, so 12 are read",)
            pixels = cv2.convertScaleAbs(pixels, alpha=255 / (65535 if deep else TWELVE_BITS))
        pixels = _rgb(path, pixels)
    if seen.orientation in FLIPS and upright:
        notes = (*notes, "are turned upright, as their EXIF orientation says")
    if upright == seen.decoded_upright or seen.orientation not in FLIPS:
        return pixels, notes
    down, across = FLIPS[seen.orientation]
    swapped = seen.orientation >= SWAPPED
    if upright and swapped:
        pixels = pixels.swapaxes(0, 1)
    pixels = pixels[::down, ::across]
    return np.ascontiguousarray(pixels.swapaxes(0, 1) if swapped and not upright else pixels), notes


class View(NamedTuple):
    """What an image file tells before it is decoded: width and height upright, and its EXIF orientation (1: upright).

    `decoded_upright`: its decoder turns it (TIFF).
    """

    width: int
    height: int
    orientation: int
    decoded_upright: bool

    def size(self, upright: bool) -> tuple[int, int]:
        """Width and height, upright or as stored."""
        swapped = not upright and self.orientation >= SWAPPED
        return (self.height, self.width) if swapped else (self.width, self.height)


def view(file: BinaryIO, path: Path) -> View:
    """How an image lies in its file; `path` is told where it is no image."""
    try:
        image = _opened(file)
        has_exif = image.format != "PNG" or "exif" in image.info  # else Pillow decodes a PNG to look for it
        exif = image.getexif().get(ORIENTATION, 1) if has_exif else 1
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # Pillow does not know it
        file.seek(0)
        height, width = _decoded(path, file.read()).shape[:2]
        return View(width, height, 1, False)
    orientation = exif if exif in FLIPS else 1
    tiff = image.format == "TIFF"  # Pillow and OpenCV turn it, and tell its size as it is upright
    width, height = image.size[::-1] if orientation >= SWAPPED and not tiff else image.size
    return View(width, height, orientation, tiff)


def _opened(file: BinaryIO) -> Image.Image:
    """Pillow's image, not decoded yet; of PNG and JPEG of any size, where `open` refuses 179 megapixels."""
    head = file.read(len(PNG))
    file.seek(0)
    if head == PNG:
        return PngImageFile(file)
    return JpegImageFile(file) if head.startswith(JPEG) else Image.open(file)


def read_mask(path: Path | str, palette: np.ndarray | None = None) -> np.ndarray:
    """(H, W) int32 ids from a grey file of 1 to 32 bits or a palette PNG's indices; with `palette` from colours.

    A file with several channels (without `palette`), a JPEG, a TIFF that is lossy, inverted or of several images, other
    files that EXIF turns (TIFFs are upright) and a colour that is not in `palette` raise HeterosegError. Of BMP, PGM
    and TIFF that is not deflated nobody knows whether bits have changed.
    """
    path = Path(path)
    data = _bytes_of_mask(path)
    if palette is not None:
        return _from_colors(path, _decoded(path, data), palette)
    depth, grey = (data[24], data[25] == 0) if data.startswith(PNG) and len(data) > 25 else (8, False)
    ids = _indices(path, data)
    ids = _decoded(path, data) if ids is None else ids
    if ids.ndim != 2 or ids.dtype.kind not in "ui":
        channels = 1 if ids.ndim == 2 else ids.shape[2]
        equal = channels >= 3 and bool((ids[..., :3] == ids[..., :1]).all())
        hint = "they are equal, so keep one" if equal else "store ids instead of colours"
        raise HeterosegError(f"{path}: expected one channel of whole ids, found {channels} of {ids.dtype}; {hint}")
    if grey and depth < 8:
        ids = ids // (255 // (2**depth - 1))  # the decoder stretches few bits to 0..255
    if ids.dtype.itemsize > 2 and ids.min(initial=0) < -1:  # 32 bits without a sign come with one
        raise HeterosegError(f"{path}: expected ids from 0 to {2**31 - 1}, found others; renumber them")
    return ids.astype(np.int32)


def _bytes_of_mask(path: Path) -> bytes:
    data = _bytes(path)
    if data.startswith(JPEG):
        raise HeterosegError(f"{path}: expected a mask in a lossless format, found a JPEG; export it as PNG")
    seen = view(io.BytesIO(data), path)
    if seen.orientation in FLIPS and not seen.decoded_upright:
        told = f"found EXIF orientation {seen.orientation}; save it upright and without"
        raise HeterosegError(f"{path}: expected a mask that lies as it is to be read, {told}")
    if data.startswith(TIFF) and (wrong := _wrong_in_tiff(path, data)):
        raise HeterosegError(f"{path}: expected a mask of sure ids, found a TIFF with {wrong}; export it as PNG")
    return data


def _wrong_in_tiff(path: Path, data: bytes) -> str | None:
    """Why the ids of a TIFF are not sure. A damaged one raises HeterosegError, as far as it has checksums."""
    with _readable(path):
        tags = _tags(data, None)
        if tags.get(COMPRESSION) in DEFLATED:
            for at, size in zip(tags.get(273) or tags[324], tags.get(279) or tags[325], strict=True):  # strips or tiles
                zlib.decompress(data[at : at + size])
        if tags.get(COMPRESSION) in LOSSY:
            return "lossy compression"
        if tags.get(262) == 0:
            return "0 as white"
        smaller = tags.next and _tags(data, tags.next).get(254, 0) & 1  # a copy of the first image
        return "several images" if tags.next and not smaller else None


def _tags(data: bytes, at: int | None) -> ImageFileDirectory_v2:
    """The tags of one of a TIFF's images, by default the first."""
    tags, file = ImageFileDirectory_v2(data[: 16 if 43 in data[2:4] else 8]), io.BytesIO(data)
    file.seek(tags.next if at is None else at)
    tags.load(file)
    return tags


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        nowhere = path.is_symlink() and not path.exists()
        reason = f"it is a link to nothing ({path.readlink()})" if nowhere else error.strerror or error
        raise HeterosegError(f"{path}: cannot be read, {reason}") from None
    if data.startswith(POINTER):
        raise HeterosegError(f"{path}: expected an image, found a pointer of git-lfs; fetch the file by git lfs pull")
    return data


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (cv2.error, OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error, zlib.error):
        fault = f"{path}: expected an image, found a file that is cut off or damaged; download it again"
        raise HeterosegError(fault) from None


def _indices(path: Path, data: bytes) -> np.ndarray | None:
    """(H, W) the indices of a file with a palette, or of 1 bit, which OpenCV hides; None for other files."""
    if data.startswith(PNG) and data[25:26] != PALETTE:
        return None
    try:
        image = _opened(io.BytesIO(data))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None  # not one of Pillow's kinds
    if image.mode not in ("P", "1"):
        return None
    with _readable(path):
        _opened(io.BytesIO(data)).verify()  # checksums, which decoding does not heed
        return np.asarray(image, np.uint8)


def _decoded_jpeg(path: Path, data: bytes) -> np.ndarray | None:
    """(H, W, 3) RGB; None for CMYK. What lost a part but ends well is an error here, and a grey rest with OpenCV."""
    with _readable(path):
        if decode_jpeg_header(data)[2] in ("CMYK", "YCCK"):
            return None
        try:
            return decode_jpeg(data)
        except ValueError as error:
            if "extraneous bytes" not in str(error):  # which harm nothing
                raise
            return decode_jpeg(data, strict=False)


def _decoded(path: Path, data: bytes) -> np.ndarray:
    """All channels and bits as they are, BGR (from memory: a cut file is an error, not a grey rest)."""
    with _readable(path):
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None:
            raise ValueError("not decoded")
        return pixels


def _rgb(path: Path, pixels: np.ndarray) -> np.ndarray:
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    code = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}.get(channels)
    if code is None or pixels.dtype != np.uint8:
        raise HeterosegError(
            f"{path}: expected 1, 3 or 4 channels of 8 bits, found {channels} of {pixels.dtype}; convert the file"
        )
    return cv2.cvtColor(pixels, code)


def _packed(rgb: np.ndarray) -> np.ndarray:
    """(H, W) uint32 R + 256 G + 65536 B."""
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2RGBA).view("<u4")[..., 0] & 0xFFFFFF


@lru_cache(maxsize=8)
def _id_table(palette: bytes) -> np.ndarray:
    """(2**24,) int32: id + 1 by packed colour, 0 where no id has the colour. Untouched pages take no memory."""
    red, green, blue, ids = np.frombuffer(palette, np.int32).reshape(-1, 4).T
    table = np.zeros(1 << 24, np.int32)
    table[red | green << 8 | blue << 16] = ids + 1
    return table


def _from_colors(path: Path, pixels: np.ndarray, palette: np.ndarray) -> np.ndarray:
    rgb = _rgb(path, pixels)
    if palette.shape[1] == 3:
        palette = np.column_stack([palette, np.arange(len(palette))])
    ids = _id_table(palette.astype(np.int32).tobytes())[_packed(rgb)] - 1
    if ids.size and ids.min() < 0:
        y, x = (int(v) for v in np.argwhere(ids < 0)[0])
        color = tuple(rgb[y, x].tolist())
        raise HeterosegError(
            f"{path}: expected only the palette's colours, found {color} at x={x}, y={y}; "
            f"add the colour to the palette or repair the mask"
        )
    return ids


def strays(item: Item, width: int, height: int) -> tuple[list[int], str]:
    """The places of the boxes that stand out of the image, and what is to be told of them; unknown ground may."""
    boxes = item.boxes * np.array([width, height] * 2, np.float32) if item.parts else item.boxes
    sure = item.box_ids != UNKNOWN
    places = [i for i in np.flatnonzero(sure).tolist() if outside(map(float, boxes[i]), width, height)]
    more = f" and {len(places) - 1} more" * (len(places) > 1)
    told = f"{item.box_file or 'boxes'}: {item.image}: expected boxes inside the image of {width}x{height}, found"
    first = boxes[places[0]].tolist() if places else ""
    return places, f"{told} {first}{more}; if the image was resized, scale the boxes too" if places else ""


def _clipped(item: Item, height: int, width: int) -> np.ndarray:
    if fault := strays(item, width, height)[1]:
        raise HeterosegError(fault)
    size = np.array([width, height] * 2, np.float32)
    return np.clip(item.boxes * size if item.parts else item.boxes, 0, size)
