"""What a network says about every pixel of an image, leaf by leaf, in bands of rows that bound the memory."""

from collections.abc import Iterator

import numpy as np
import torch

from heteroseg.decision import leaf_probs, upsample
from heteroseg.model import Prediction

BAND = 2**24  # probabilities at a time


def leaf_bands(prediction: Prediction, temperatures: torch.Tensor | None = None) -> Iterator[tuple[slice, np.ndarray]]:
    """(rows, probabilities) of an image from top to bottom; probabilities are (leaves, rows, W) float32.

    `temperatures` (channels,) divides the logits first.
    """
    height, width = prediction.size
    tree, network = prediction.model.taxonomy, prediction.model.network
    step = max(1, BAND // (prediction.logits.shape[1] * width))
    for start in range(0, height, step):
        stop = min(start + step, height)
        logits = upsample(prediction.logits, network.covers(height, width), (start, stop), width)
        if temperatures is not None:
            logits = logits / temperatures.to(logits.device)[:, None, None]
        yield slice(start, stop), leaf_probs(logits, tree)[0].cpu().numpy()
