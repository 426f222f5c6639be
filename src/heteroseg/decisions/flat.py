"""The exact decode for the logits of any network: a flat network is a tree of one classifier."""

import sys
from collections.abc import Iterable, Sequence
from numbers import Integral
from operator import index
from typing import Any

import numpy as np

from heteroseg.decisions.kernels_cell import Answers
from heteroseg.decisions.kernels_flat import reject_band
from heteroseg.decisions.kernels_path import path_band, path_work
from heteroseg.decisions.lazy_kernel import corners
from heteroseg.decisions.tables import FloatArray, IntArray, Size, Walk, grid_of, in_bands
from heteroseg.errors import HeterosegError, require_between


def decode_logits(
    logits: Any,
    size: Sequence[int],
    *,
    classes: Iterable[int] | None = None,
    ignore: Iterable[int] = (),
    min_probability: float = 0.0,
    reject_id: int = -1,
) -> Any:
    """The label map of any network's logits at full size: upsample (bilinear, align_corners false) and argmax, exactly.

    `logits` (C, h, w) or (B, C, h, w), a floating-point NumPy array or tensor, stand for an image of `size` (H, W).
    The result, int64 (H, W) or (B, H, W), is what they were: an array, or a tensor on the same device. Only `classes`
    (None: all) may answer, and of these none that is in `ignore`. With `min_probability`, a pixel whose answer has a
    smaller softmax probability, among all C classes, becomes `reject_id`.

    Exactly means: logits are taken as float32 (beyond +-1e30 as +-1e30, NaN as the lowest) and interpolated down, then
    across, by two rounded products and a sum each; the first of equal classes answers; probabilities are those of the
    interpolated logits in float64. Torch's `interpolate` rounds in an order that differs between machines, so it may
    answer otherwise where two classes are within that rounding of each other.

    On CPUs this needs numpy and numba alone. Raises HeterosegError for other logits, sizes, classes or probabilities.

    Examples:
        >>> import numpy as np
        >>> from heteroseg import decode_logits
        >>> logits = np.array([[[4.0, 0.0]], [[0.0, 1.0]], [[3.0, 3.0]]])  # three classes, 1 x 2 cells
        >>> decode_logits(logits, (1, 8)).tolist()
        [[0, 0, 0, 2, 2, 2, 2, 2]]
        >>> decode_logits(logits, (1, 8), ignore=[2]).tolist()
        [[0, 0, 0, 0, 0, 1, 1, 1]]
        >>> decode_logits(logits, (1, 8), min_probability=0.7).tolist()
        [[0, 0, -1, -1, 2, 2, 2, 2]]
    """
    torch: Any = sys.modules.get("torch")
    is_tensor = torch is not None and isinstance(logits, torch.Tensor)
    z, full = _checked(logits.detach() if is_tensor else logits), _size(size)
    kept, reject = _kept(z.shape[-3], classes, ignore), _threshold(z.shape[-3], min_probability, reject_id)
    batch = z if z.ndim == 4 else z[None]
    if is_tensor and z.is_cuda:
        labels = in_torch(batch, full, kept, reject)
    else:
        images = batch.float().cpu().numpy() if is_tensor else batch
        labels = np.empty((len(images), *full), np.int64)
        for image, out in zip(images, labels, strict=True):
            _decode(image, kept, reject, out)
        labels = torch.from_numpy(labels).to(z.device) if is_tensor else labels
    return labels if z.ndim == 4 else labels[0]


def _checked(logits: Any) -> Any:
    """A tensor, or what has the interface of an array as one."""
    z = logits if hasattr(logits, "is_floating_point") else np.asarray(logits) if hasattr(logits, "__array__") else None
    if z is None or "float" not in getattr(z.dtype, "name", str(z.dtype)) or z.ndim not in (3, 4) or 0 in z.shape[-3:]:
        found = type(logits).__name__ if z is None else f"{z.dtype} {tuple(z.shape)}"
        expected = "floating-point numbers, an array or tensor (C, h, w) or (B, C, h, w)"
        raise HeterosegError(f"logits: expected {expected}, found {found}")
    return z


def _size(size: Sequence[int]) -> Size:
    try:
        height, width = map(index, size)
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        raise HeterosegError(f"size: expected height and width, two whole numbers from 1, found {size!r:.80}")
    return height, width


def _kept(count: int, classes: Iterable[int] | None, ignore: Iterable[int]) -> list[int]:
    """The classes that may answer, rising."""
    kept = set(range(count))
    for what, given in (("classes", kept if classes is None else classes), ("ignore", ignore)):
        try:
            found = {-1 if isinstance(n, bool | np.bool_) else index(n) for n in given}
        except TypeError:
            found = {-1}
        if not found <= set(range(count)):
            raise HeterosegError(f"{what}: expected a list of classes from 0 to {count - 1}, found {given!r:.80}")
        kept = kept & found if what == "classes" else kept - found
    if not kept:
        raise HeterosegError("classes and ignore: expected to leave a class that may answer, found none")
    return sorted(kept)


def _threshold(count: int, least: float, reject_id: int) -> tuple[float, int]:
    require_between("min_probability", least, 0, 1)
    if not least:
        return 0.0, -1
    if not isinstance(reject_id, Integral) or not (-(2**63) <= reject_id < 0 or count <= reject_id < 2**63):
        raise HeterosegError(f"reject_id: expected a number below 0 or from {count}, no class, found {reject_id!r:.80}")
    return float(least), int(reject_id)


def _rows_first(image: FloatArray, kept: slice | list[int]) -> FloatArray:
    """Channels of (C, h, w) as (h, w, kept) float32 in memory order."""
    z = np.empty((*image.shape[1:], len(image[kept])), np.float32)

    def turn(start: int, stop: int) -> None:
        with np.errstate(over="ignore"):
            z[start:stop] = image[kept, start:stop].transpose(1, 2, 0)

    in_bands(len(z), turn)
    return z


def _decode(image: FloatArray, kept: list[int], reject: tuple[float, int], out: IntArray) -> None:
    """Write the labels (H, W) int64 of an image's logits (C, h, w)."""
    channels, h, w = image.shape
    codes = np.array([-1, *kept])  # what the root and the channels mean
    begin, end = np.full((2, len(codes)), -1, np.int32)
    begin[0], end[0] = 0, len(kept)
    walk = Walk(0, begin, end, np.arange(1, len(codes), dtype=np.int32), codes, True, True)
    size = (out.shape[0], out.shape[1])
    grid, answers = grid_of(h, w, size, size), Answers(codes, out.reshape(-1), np.empty(0, np.float32))
    every = len(kept) == channels
    z = _rows_first(image, slice(None) if every else kept)
    whole = z if every or not reject[0] else _rows_first(image, slice(None))

    def band(start: int, stop: int) -> None:
        rows = min(stop, h - 1) - start + 1
        path_band(corners(z, start, rows), start, stop, grid, walk, path_work(walk, grid, rows, w), answers)
        if reject[0]:
            sums, sides = np.empty((rows, w), np.float32), np.empty((3, channels), np.float32)
            reject_band(whole, start, stop, grid, *reject, sums, sides, answers.out)

    in_bands(h, band)


def in_torch(logits: Any, size: Size, kept: Sequence[int], reject: tuple[float, int]) -> Any:
    """The same of a tensor (B, C, h, w) on its device: the plain reference, upsample and argmax in bands of rows."""
    import torch

    from heteroseg.decisions.exact import CHUNK
    from heteroseg.decisions.reference import upsample

    known = torch.tensor(kept, device=logits.device)
    rows, parts = max(1, CHUNK // max(1, logits.shape[:2].numel() * size[1])), []
    for start in range(0, size[0], rows):
        z = upsample(logits, size, (start, min(start + rows, size[0])), size[1])
        labels = known[(z if len(kept) == z.shape[1] else z[:, known]).argmax(1)]
        if reject[0]:
            shares = z.double().softmax(1).gather(1, labels[:, None])[:, 0]
            labels = torch.where(shares < reject[0], reject[1], labels)
        parts.append(labels)
    return torch.cat(parts, 1)
