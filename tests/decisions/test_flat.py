"""Logits of any network: the labels of upsample and argmax, as arrays and tensors, and what is told of wrong ones."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from heteroseg import HeterosegError, decode_logits
from heteroseg.decisions.bilinear import cells_and_weight
from heteroseg.decisions.flat import in_torch
from heteroseg.decisions.reference import upsample
from tests.decisions.test_exact import KINDS, logits_of

LIGHT = """\
import sys
sys.modules |= dict.fromkeys(("torch", "pydantic", "cv2", "scipy"))  # whoever imports them fails
import numpy as np
from heteroseg import decode_logits
z = np.random.default_rng(0).normal(size=(2, 5, 6, 7))
print(decode_logits(z, (40, 50), ignore=[1], min_probability=0.5).sum())
"""


def plain(z: torch.Tensor, size, kept=None, least=0.0, reject=-1) -> torch.Tensor:
    """The definition: (B, C, h, w) to (B, H, W)."""
    full = upsample(z, size, (0, size[0]), size[1])
    kept = torch.arange(z.shape[1]) if kept is None else torch.tensor(sorted(kept))
    labels = kept[full[:, kept].argmax(1)]
    shares = full.double().softmax(1).gather(1, labels[:, None])[:, 0]
    return torch.where(shares < least, reject, labels)


def agrees(z: torch.Tensor, size, kept=None, least=0.0, reject=-1) -> None:
    due = plain(z, size, kept, least, reject)
    how = {"classes": kept, "min_probability": least, "reject_id": reject}
    found = decode_logits(z, size, **how)
    assert found.dtype == torch.int64
    assert torch.equal(found, due)
    every = range(z.shape[1]) if kept is None else sorted(kept)
    assert torch.equal(in_torch(z, size, list(every), (least, reject)), due), "what CUDA does"
    if z.dtype != torch.bfloat16:
        array = decode_logits(z.numpy(), size, **how)
        assert isinstance(array, np.ndarray)
        assert np.array_equal(array, due.numpy())


@st.composite
def frames(draw):
    """Logits, the size of the image, classes that may answer, and a least probability."""
    batch, classes = draw(st.integers(1, 3)), draw(st.integers(1, 12))
    h, w, seed = draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.integers(0, 999))
    parts = [logits_of(draw(st.sampled_from(KINDS)), classes, h, w, seed + b) for b in range(batch)]
    z = torch.cat(parts).to(draw(st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16])))
    z = draw(st.sampled_from([z, z.contiguous(memory_format=torch.channels_last), z.mT.contiguous().mT]))
    size = (draw(st.integers(1, 40)), draw(st.integers(1, 40)))  # also smaller than the grid
    kept = draw(st.none() | st.sets(st.integers(0, classes - 1), min_size=1))
    return z, size, kept, draw(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 0.999])), draw(st.sampled_from([-1, 255]))


@given(frames())
def test_any_logits_any_size(frame):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy's of what overflows
        agrees(*frame)


@given(st.integers(1, 64), st.integers(1, 64), st.integers(0, 999), st.sampled_from(["random", "smooth", "close"]))
def test_beside_torchs_own_interpolation(height, width, seed, kind):
    """Another class than torch's only where both are within rounding of the largest."""
    z = logits_of(kind, 7, 5, 6, seed)
    found = decode_logits(z, (height, width))[:, None]
    theirs = F.interpolate(z, (height, width), mode="bilinear").argmax(1, keepdim=True)
    true = F.interpolate(z.double(), (height, width), mode="bilinear")
    apart = (true.gather(1, found) - true.gather(1, theirs)).abs()
    assert (apart <= 2e-6 * z.abs().max()).all()
    if kind != "close":
        assert (found != theirs).float().mean() < 0.01


@pytest.mark.parametrize("classes", [1, 2, 150, 1000])
def test_few_and_many_classes(classes):
    for kind in ("smooth", "random", "certain"):
        z = logits_of(kind, classes, 9, 12, 3)
        for least in (0.0, 0.6):
            agrees(z, (71, 90), None, least, reject=-7)
            agrees(z, (36, 48), set(range(0, classes, 3)), least, reject=-7)


def test_arrays_as_they_lie():
    """Not contiguous, turned, reversed, read-only, of the other byte order, half precision, one image alone."""
    z = logits_of("random", 6, 8, 10, 5).numpy()
    due = plain(torch.from_numpy(z), (33, 40)).numpy()
    assert np.array_equal(decode_logits(z[0], (33, 40)), due[0])
    turned = np.ascontiguousarray(z.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    large = np.zeros((1, 12, 16, 30), np.float32)
    large[:, ::2, ::2, ::3] = z
    locked = z.copy()
    locked.flags.writeable = False
    for same in (
        turned,
        large[:, ::2, ::2, ::3],
        locked,
        z.astype(">f4"),
        z[..., ::-1].copy()[..., ::-1],
        z.astype(float),
    ):
        before = same.copy()
        assert np.array_equal(decode_logits(same, (33, 40)), due)
        assert np.array_equal(decode_logits(same, np.array([33, 40]), ignore=(), min_probability=0), due)
        assert np.array_equal(before, same)
    half = z.astype(np.float16)
    assert np.array_equal(decode_logits(half, (33, 40)), plain(torch.from_numpy(half), (33, 40)))
    assert decode_logits(z[:0], (33, 40)).shape == (0, 33, 40)
    assert decode_logits(torch.from_numpy(z).requires_grad_(), torch.Size((33, 40))).tolist() == due.tolist()


def test_bfloat16_arrays():
    kind = pytest.importorskip("ml_dtypes").bfloat16
    z = logits_of("random", 6, 8, 10, 5)
    due = plain(z.bfloat16(), (33, 40))
    assert np.array_equal(decode_logits(z.numpy().astype(kind), (33, 40)), due)


def test_what_is_left_out_keeps_its_probability():
    """The second class is twice as likely as the first; without it the first answers, with its 0.3."""
    z = np.log(np.array([0.3, 0.6, 0.1])).reshape(3, 1, 1) * np.ones((3, 4, 4))
    assert (decode_logits(z, (9, 9)) == 1).all()
    assert (decode_logits(z, (9, 9), ignore=[1]) == 0).all()
    assert (decode_logits(z, (9, 9), ignore=[1], min_probability=0.29) == 0).all()
    assert (decode_logits(z, (9, 9), ignore=[1], min_probability=0.31) == -1).all()
    assert (decode_logits(z, (9, 9), classes=[0, 2, 2], ignore=[0], min_probability=0.05) == 2).all()


@pytest.mark.parametrize("least", [0.25, 0.5, 1.0])
def test_a_probability_that_is_just_enough_is_enough(least):
    count = round(1 / least)
    assert (decode_logits(np.ones((count, 3, 3)), (20, 20), min_probability=least) == 0).all()
    assert (
        decode_logits(np.ones((count, 3, 3)), (20, 20), min_probability=min(1, least + 1e-9)) < 0
    ).all() or least == 1


def test_positions_in_arrays_and_tensors_have_the_same_bits():
    rng = np.random.default_rng(0)
    for full, small in [*rng.integers(1, 3000, (300, 2)).tolist(), (1, 1), (1, 9), (9, 1)]:
        at = np.arange(full, dtype=np.float32)
        for mine, theirs in zip(
            cells_and_weight(at, full, small), cells_and_weight(torch.from_numpy(at), full, small), strict=True
        ):
            assert torch.equal(torch.from_numpy(mine), theirs)


def test_torch_and_pydantic_need_not_be_there():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True)
    z = np.random.default_rng(0).normal(size=(2, 5, 6, 7))
    assert int(done.stdout) == decode_logits(z, (40, 50), ignore=[1], min_probability=0.5).sum()


Z = np.zeros((3, 4, 5), np.float32)
WRONG = {
    "an image": (Z[0], (8, 8), {}, "logits: expected floating-point numbers, .* found float32 \\(4, 5\\)"),
    "no class": (Z[:0], (8, 8), {}, "found float32 \\(0, 4, 5\\)"),
    "five axes": (Z[None, None], (8, 8), {}, "found float32 \\(1, 1, 3, 4, 5\\)"),
    "whole numbers": (Z.astype(np.uint8), (8, 8), {}, "found uint8 \\(3, 4, 5\\)"),
    "complex": (torch.zeros(3, 4, 5, dtype=torch.complex64), (8, 8), {}, "found torch.complex64 \\(3, 4, 5\\)"),
    "labels": (torch.zeros(3, 4, 5, dtype=torch.int64), (8, 8), {}, "found torch.int64 \\(3, 4, 5\\)"),
    "a dictionary": ({"out": Z}, (8, 8), {}, "found dict"),
    "nothing": (None, (8, 8), {}, "found NoneType"),
    "one side": (Z, (8,), {}, "size: expected height and width, two whole numbers from 1, found \\(8,\\)"),
    "a number": (Z, 8, {}, "found 8"),
    "three sides": (Z, (8, 8, 3), {}, "found \\(8, 8, 3\\)"),
    "no pixel": (Z, (0, 8), {}, "found \\(0, 8\\)"),
    "half a pixel": (Z, (8.5, 8), {}, "found \\(8.5, 8\\)"),
    "a text": (Z, "88", {}, "found '88'"),
    "a class too far": (Z, (8, 8), {"classes": [0, 3]}, "classes: expected .* from 0 to 2, found \\[0, 3\\]"),
    "below 0": (Z, (8, 8), {"ignore": [-1]}, "ignore: expected .* found \\[-1\\]"),
    "no list": (Z, (8, 8), {"ignore": 255}, "ignore: expected .* found 255"),
    "names": (Z, (8, 8), {"classes": "sky"}, "classes: expected .* found 'sky'"),
    "a mask": (Z, (8, 8), {"classes": np.array([True, False, True])}, "classes: expected"),
    "a list as mask": (Z, (8, 8), {"classes": [True, False, True]}, "classes: expected"),
    "none left": (Z, (8, 8), {"classes": [1], "ignore": [1]}, "classes and ignore: expected to leave a class"),
    "none asked": (Z, (8, 8), {"classes": []}, "classes and ignore: expected to leave a class"),
    "percent": (Z, (8, 8), {"min_probability": 80}, "min_probability: expected a number from 0 to 1, found 80"),
    "not a number": (Z, (8, 8), {"min_probability": float("nan")}, "min_probability: expected"),
    "a class as reject": (Z, (8, 8), {"min_probability": 0.5, "reject_id": 2}, "reject_id: expected .* found 2"),
    "half a reject": (Z, (8, 8), {"min_probability": 0.5, "reject_id": 7.5}, "reject_id: expected .* found 7.5"),
    "a reject too far": (Z, (8, 8), {"min_probability": 0.5, "reject_id": 2**63}, "reject_id: expected"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG, ids=str)
def test_what_is_wrong_is_told_in_a_sentence(case):
    logits, size, how, told = WRONG[case]
    with pytest.raises(HeterosegError, match=told) as caught:
        decode_logits(logits, size, **how)
    assert len(caught.value.faults) == 1
    assert "\n" not in str(caught.value)
