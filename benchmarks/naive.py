"""The decode as it is usually done, to compare with: it upsamples every logit."""

import statistics

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from heteroseg.decisions.exact import dense
from heteroseg.decisions.plan import Plan
from heteroseg.decisions.reference import label_map
from heteroseg.export.bench import frame, timed
from heteroseg.model.model import Model


def naive_decode(logits: Tensor, covers: tuple[int, int], size: tuple[int, int], plan: Plan) -> np.ndarray:
    """Upsample every logit, then one argmax for each classifier and a table; or sums of softmaxes."""
    full = F.interpolate(logits, covers, mode="bilinear", align_corners=False)[:, :, : size[0], : size[1]]
    if plan.rule == "marginal" and plan.space is not None:
        return plan.answer[label_map(full, plan.space, "marginal")[0].numpy()]
    code = torch.full((1, *size), plan.walk.first)
    after = torch.from_numpy(plan.walk.after).long()
    for node in np.flatnonzero(plan.walk.begin >= 0).tolist():  # a parent comes before its children
        low, high = int(plan.walk.begin[node]), int(plan.walk.end[node])
        code = torch.where(code == node, after[low + full[:, low:high].argmax(1)], code)
    return plan.answer[code[0].numpy()]


@torch.inference_mode()
def compare(model: Model, image: np.ndarray, labels: str, threads: int = 2, repeats: int = 5) -> dict[str, float]:
    """The median time of the naive decode of an image, and the share of pixels in which it agrees with the exact one.

    They are not all equal, because its interpolation rounds in another order.
    """
    plan, before = model.plan(labels, ids=True), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        _, logits, ids = frame(model, image, plan)
        known = logits if isinstance(logits, torch.Tensor) else dense(logits)
        covers, size = model.network.covers(*image.shape[:2]), (image.shape[0], image.shape[1])
        times = timed(lambda: naive_decode(known, covers, size, plan), repeats)
        agreement = (naive_decode(known, covers, size, plan) == ids).mean()
    finally:
        torch.set_num_threads(before)
    return {"naive_decode_ms": statistics.median(times), "naive_agreement": float(agreement)}
