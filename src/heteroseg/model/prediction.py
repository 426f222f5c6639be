"""What a network says about one image, worked out when it is asked for."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from heteroseg.decisions import reference
from heteroseg.decisions.exact import Logits, decode, dense
from heteroseg.decisions.reference import leaf_probs, upsample
from heteroseg.errors import HeterosegError, nearest, require_between, shortened
from heteroseg.labels.space import LabelSpace
from heteroseg.model.answer_files import decided_by, outputs_of, told_of, told_of_pixels, write_answer
from heteroseg.model.pictures import picture
from heteroseg.model.promise import least_of
from heteroseg.model.views import ALONE, Views
from heteroseg.writing import home_expanded, require_folder

if TYPE_CHECKING:
    from heteroseg.model.model import Model

BAND = 2**22  # logits that are upsampled at a time
APART = 7  # pixels between those that a mean is taken of; no multiple of it is a stride, so they lie anywhere in cells


class LabelMap(np.ndarray):
    """Numbers of labels or nodes. To compare them with a name raises HeterosegError, as NumPy would find no pixel."""

    def __eq__(self, other: Any) -> Any:
        _require_number(other)
        return super().__eq__(other)

    def __ne__(self, other: Any) -> Any:
        _require_number(other)
        return super().__ne__(other)


def _require_number(other: Any) -> None:
    if isinstance(other, str) or getattr(getattr(other, "dtype", None), "kind", None) in ("U", "S"):
        hint = "prediction.mask(name) is where a label or node is, prediction.names() what there is"
        raise HeterosegError(f"a label map holds numbers, found a comparison with {shortened(repr(other))}; {hint}")


@dataclass(repr=False)
class Prediction:
    """What the network says about one image; everything is worked out when it is asked for.

    `image` (H, W, 3) uint8 is what it saw, in `views`, `given` what was asked about. `output` holds logits (1, C, h, w)
    at the output stride, or what they are made of. Long work calls `between` now and then, which may raise to stop it.

    Examples:
        >>> import tempfile
        >>> prediction = model.predict(np.zeros((48, 64, 3), np.uint8))
        >>> ids = prediction.labels("gtsdb")
        >>> space = model.space("gtsdb")
        >>> ids.shape, ids.dtype, set(ids.ravel().tolist()) <= {*space.ids.tolist(), space.outside}
        ((48, 64), dtype('int64'), True)
        >>> bool(np.allclose(prediction.probs("root"), 1))
        True
        >>> prediction.overlay("gtsdb").width  # the picture under its colours, and a legend
        64
        >>> with tempfile.TemporaryDirectory() as folder:  # the files of `heteroseg predict`
        ...     _ = prediction.save(folder, "gtsdb", name="night")
        ...     sorted(file.name for file in Path(folder).iterdir())
        ['night.json', 'night.png', 'night_overlay.jpg']
        >>> bool(sum(prediction.mask(name).mean() for name in prediction.names()) > 0.999)  # by name
        True
    """

    model: "Model"
    output: Logits
    image: np.ndarray
    given: Any = None
    views: Views = ALONE
    between: Callable[[], object] = bool

    def __repr__(self) -> str:
        return f"Prediction({self.size[0]}x{self.size[1]} pixels, by {self.model!r})"

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.image.shape[0], self.image.shape[1]

    @cached_property
    def logits(self) -> Tensor:
        """(1, C, h, w) logits at the output stride."""
        return self.output if isinstance(self.output, Tensor) else dense(self.output, self.between)

    def _bands(self) -> Iterator[tuple[slice, Tensor]]:
        """Rows and their upsampled logits (1, C, rows, W), from top to bottom: memory does not grow with the image."""
        height, width = self.size
        rows = max(1, BAND // (self.logits.shape[1] * width))
        for start in range(0, height, rows):
            self.between()
            stop = min(start + rows, height)
            yield slice(start, stop), upsample(self.logits, self.covers, (start, stop), width)

    def _by_bands(self, answer: Callable[[Tensor], Tensor]) -> np.ndarray:
        """(H, W) answers to upsampled logits."""
        return torch.cat([answer(logits)[0] for _, logits in self._bands()]).cpu().numpy()

    def leaf_bands(self) -> Iterator[tuple[slice, np.ndarray]]:
        """(rows, probabilities) from top to bottom; probabilities are (leaves, rows, W) float32."""
        for rows, logits in self._bands():
            yield rows, leaf_probs(logits, self.model.taxonomy)[0].cpu().numpy()

    def mean_probs(self, regions: np.ndarray) -> np.ndarray:
        """(R + 1, leaves) float64 mean probabilities of the pixels of each number in `regions` (H, W) int, 0 to R.

        A number without pixels has zeros.
        """
        count, flat = int(regions.max()) + 1, regions.reshape(self.size)
        sums = np.zeros((len(self.model.taxonomy.leaves), count))
        for rows, probs in self.leaf_bands():
            numbers = flat[rows].ravel()
            for leaf, values in enumerate(probs):
                sums[leaf] += np.bincount(numbers, weights=values.ravel(), minlength=count)
        return sums.T / np.maximum(np.bincount(flat.ravel(), minlength=count), 1)[:, None]

    @property
    def covers(self) -> tuple[int, int]:
        """The padded image size that the logits stand for."""
        return self.model.network.covers(*self.size)

    def _decoded(
        self, space: str | LabelSpace | None, ids: bool = False, confident: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        return decode(self.output, self.covers, self.size, self.model.plan(space, ids), confident, self.between)

    def label_indices(self, space: str | LabelSpace) -> np.ndarray:
        """(H, W) int64 indices into `space.labels`, -1 outside the space."""
        return self._decoded(space)[0].view(LabelMap)

    def labels(self, space: str | LabelSpace) -> np.ndarray:
        """(H, W) int64 native ids of a label space (a name in `model.spaces`, or a LabelSpace of the same taxonomy)."""
        return self._decoded(space, ids=True)[0].astype(np.int64).view(LabelMap)

    def mask(self, name: str, space: str | LabelSpace | None = None) -> np.ndarray:
        """(H, W) bool: where the answer is a label of this name, or a node or anything below it.

        The name is that of a label of `space`; without it that of a node, or of a label in the model's label spaces.
        A name that there is not, or that means different things in several of these, raises HeterosegError.
        """
        tree, spaces = self.model.taxonomy, list(self.model.spaces.values())
        if space is not None:
            spaces = [self.model.space(space) if isinstance(space, str) else space]
        elif name in tree.names:
            start, stop = tree.spans[tree.index(name)]
            leaves = np.asarray(self.label_indices("leaves"))
            return (leaves >= start) & (leaves < stop)
        found = {b.leaves: (s, i) for s in reversed(spaces) for i, b in enumerate(s.labels) if b.name == name}
        if len(found) == 1:
            ((owner, index),) = found.values()
            return np.asarray(self.label_indices(owner)) == index
        if found:
            told = " and ".join(sorted(repr(owner.name) for owner, _ in found.values()))
            raise HeterosegError(f"label {name!r} has different meanings in {told}; name the label space")
        known = [*(label.name for s in spaces for label in s.labels), *(tree.names if space is None else ())]
        near = nearest(name, known)
        raise HeterosegError(f"expected the name of a label or node, found {shortened(repr(name))}{near}")

    def names(self, space: str | LabelSpace = "leaves") -> list[str]:
        """Names of the labels that were found, those of the most pixels first."""
        space = space if isinstance(space, LabelSpace) else self.model.space(space)
        found = np.asarray(self.label_indices(space))
        counts = np.bincount(found[found >= 0], minlength=len(space.labels))
        return [space.labels[i].name for i in np.argsort(-counts, kind="stable") if counts[i]]

    def overlay(self, space: str | LabelSpace = "leaves") -> Image.Image:
        """The image under the colours of its labels, and below it their names: an image of Pillow, RGB."""
        space = space if isinstance(space, LabelSpace) else self.model.space(space)
        return Image.fromarray(picture(self.image, np.asarray(self.label_indices(space)), space))

    def save(
        self, folder: str | Path, space: str | LabelSpace = "leaves", name: str | None = None, overlay: bool = True
    ) -> Path:
        """Write what `heteroseg predict` writes: NAME.png with the ids, NAME.json, NAME_overlay.jpg. Returns the first.

        NAME is `name`, or that of the image's file, or "image" for an array. Files of this prediction stay as they are;
        those of another one, and of somebody else, raise HeterosegError.
        """
        space = space if isinstance(space, LabelSpace) else self.model.space(space)
        source = Path(self.given) if isinstance(self.given, str | os.PathLike) else None
        name = name or (source.stem if source else "image")
        if Path(name).name != name or name == "..":
            raise HeterosegError(f"name: expected the name of a file without a folder, found {name!r:.80}")
        require_folder(folder := home_expanded(folder), "choose another folder", "a folder for the predictions")
        known = partial(told_of, source) if source else partial(told_of_pixels, self.image)
        out, decided = outputs_of(folder / name, overlay), decided_by(self.model, space, views=self.views)
        if not out.done(source or name, decided, known):
            write_answer(out, self.image, np.asarray(self.label_indices(space)), space, decided | known())
        return out.ids

    def confidence(self, space: str | LabelSpace) -> np.ndarray:
        """(H, W) float32 probability of each pixel's answer in a label space, as `decode` has it."""
        return self.confident_label_indices(space)[1]

    def confident_label_indices(self, space: str | LabelSpace) -> tuple[np.ndarray, np.ndarray]:
        """`label_indices` and `confidence` for the price of one."""
        return self._decoded(space, confident=True)

    def mean_confidence(self, space: str | LabelSpace) -> float:
        """The mean of `confidence`, of one pixel in 49: at all pixels it takes longer than a fast network."""
        covers, size = ((max(1, high // APART), max(1, wide // APART)) for high, wide in (self.covers, self.size))
        _, confidence = decode(self.output, covers, size, self.model.plan(space), True, self.between)
        return float(confidence.mean())

    def nodes(self, back_off: float | None = None, precision: float | None = None) -> np.ndarray:
        """(H, W) int64 decided nodes (indices into `model.taxonomy.names`), down from the root; -1 where void.

        With `back_off` the decision stops at the deepest node whose probability is at least that, the root at worst.
        With `precision` it stops so that answers are right at least that often, as a calibrated MODEL knows to.
        """
        if precision is None and back_off is None:
            return self._decoded(None)[0].view(LabelMap)
        if precision is not None and back_off is not None:
            raise HeterosegError("nodes: expected back_off or precision, found both; drop one")
        if back_off is not None:
            require_between("back_off", back_off, 0, 1)
        tree = self.model.taxonomy
        least: Any = back_off if precision is None else least_of(self.model, precision)
        return self._by_bands(lambda logits: reference.back_off(logits, tree, least)).view(LabelMap)

    def novelty(self, score: reference.Score = "probability") -> np.ndarray:
        """(H, W) float32, the larger the less a pixel fits what was trained; see `decisions.reference.novelty`."""
        return self._by_bands(lambda logits: reference.novelty(logits, self.model.taxonomy, score))

    def probs(self, node: str) -> np.ndarray:
        """(H, W) float32 probability of a node: the sum over its leaves."""
        tree = self.model.taxonomy
        return self._by_bands(lambda logits: reference.node_probs(logits, tree)[tree.index(node)])
