"""Random labelled pixels of val images, and what a network says about them."""

from dataclasses import dataclass

import numpy as np
import torch

from heteroseg.decisions.reference import upsample_at
from heteroseg.errors import HeterosegError, require_count
from heteroseg.evaluation.scores import in_taxonomy_of, predict_labelled
from heteroseg.experiment.sources import Source
from heteroseg.labels.space import LabelSpace
from heteroseg.model.model import Model

PER_IMAGE = 400  # labelled pixels that are looked at in an image


@dataclass(frozen=True)
class Pixels:
    """Random labelled pixels of one dataset: `logits` (N, channels) float32, `labels` (N,) indices into `space.labels`,
    `image` (N,) the number of its image, `weight` (N,) the part of the images that each stands for.
    """

    space: LabelSpace
    logits: np.ndarray
    labels: np.ndarray
    image: np.ndarray
    weight: np.ndarray

    @property
    def judge(self) -> np.ndarray:
        """(N,) bool the pixels of the images that judge, every second one; the others fit."""
        return self.image % 2 == 1


def sample_pixels(
    model: Model, source: Source, limit: int | None, per_image: int = PER_IMAGE, truths: LabelSpace | None = None
) -> Pixels:
    """Up to `per_image` evaluated pixels of each val image, chosen at random; `truths` as for `evaluate_source`."""
    require_count("limit", limit)
    space, rng = in_taxonomy_of(model, source.space), np.random.default_rng(0)
    truths = truths or space
    evaluated = np.append(truths.evaluated, False)
    parts = []
    for number, (_, true, prediction) in enumerate(predict_labelled(model, source.val[:limit], truths)):
        places = np.flatnonzero(evaluated[true].ravel())
        share = len(places) / true.size
        places = np.sort(rng.permutation(places)[:per_image])
        rows, columns = np.divmod(places, true.shape[1])
        at = [torch.from_numpy(a).to(prediction.logits.device) for a in (rows, columns)]
        logits = upsample_at(prediction.logits, prediction.covers, *at)[0, :, 0].T.cpu().numpy()
        weight = np.full(len(places), share / max(len(places), 1))
        parts.append((logits, true.ravel()[places].astype(np.int64), np.full(len(places), number), weight))
    logits, labels, image, weight = map(np.concatenate, zip(*parts, strict=True))
    if not len(labels):
        raise HeterosegError(f"datasets.{source.name}: its val images have no labelled pixel")
    return Pixels(space, logits, labels, image, weight / len(parts))
