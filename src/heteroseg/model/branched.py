"""Branches of a network that are worked out where decisions need them, also behind an exported file."""

import base64
from collections.abc import Mapping, Sequence
from functools import partial

import cv2
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from heteroseg.decisions.branched import BranchedLogits, Cells
from heteroseg.decisions.exact import Logits
from heteroseg.decisions.lazy_head import LazyLogits, lazy_head, pays
from heteroseg.decisions.tables import FloatArray
from heteroseg.networks.branches import SIDE, WIDTH, Block, Branch, Branches
from heteroseg.networks.heads import Body, fused_head
from heteroseg.networks.network import Network


def logits_of(network: Network, prepared: Tensor) -> Sequence[Logits]:
    """(B, 3, H, W) from `prepare` to (1, C, h, w) float32 logits of each. On CPUs those of branches, and of many
    classes, wait to be needed."""
    body = network.body
    if isinstance(body, Body) and prepared.device.type == "cpu":
        cuts, branches, conv = body.head.cuts, body.head.branches, fused_head(body)
        if body.lazy and branches:
            parts = body.before_branches(prepared)
            each = zip(*(part.split(1) for part in parts), strict=True)
            return [lazily(one, cuts, branches.by_classifier) for one in each]
        if conv and pays(cuts):
            head = lazy_head(*weights_of(conv), cuts)
            return [LazyLogits(one, head) for one in body[1](body[0](prepared)).split(1)]
    return body(prepared).float().split(1)


def weights_of(conv: nn.Conv2d) -> tuple[FloatArray, FloatArray]:
    """Weights (C, width) and biases (C,) of a 1x1 convolution."""
    assert conv.bias is not None
    return conv.weight.detach()[:, :, 0, 0].float().cpu().numpy(), conv.bias.detach().float().cpu().numpy()


@torch.inference_mode()
def few(branch: Branch, maps: Sequence[Tensor], wanted: Cells) -> FloatArray:
    """(N, outputs) logits of the wanted cells (h, w) alone; `maps` (h, w, channels) hold what the branch reads."""
    steps = [wanted]
    for _ in branch.blocks:
        steps.append(cv2.dilate(steps[-1].astype(np.uint8), np.ones((SIDE, SIDE), np.uint8)).astype(np.bool_))
    if 3 * steps[-1].sum() > wanted.size:  # then whole maps are faster
        whole = torch.cat([*maps], 2)[None]
        return branch.logits(branch.norm(branch.blocks(branch.narrow(whole))))[0].numpy()[wanted]
    at = torch.from_numpy(np.stack(steps[-1].nonzero()))
    y = branch.narrow(torch.cat([x[at[0], at[1]] for x in maps], 1))
    for block, there, inner in zip(branch.blocks, steps[:0:-1], steps[-2::-1], strict=True):
        assert isinstance(block, Block)
        y = _few_of_block(block, y, there, inner)
    return branch.logits(branch.norm(y)).numpy()


def _few_of_block(block: Block, x: Tensor, there: Cells, wanted: Cells) -> Tensor:
    """A block for some cells (h, w): from (M, WIDTH) of those `there` to (N, WIDTH) of those `wanted`.

    Around every wanted cell all others that there are must be there.
    """
    from heteroseg.decisions.kernels_branch import weigh_around

    assert block.around.bias is not None
    half = SIDE // 2
    number = np.full((there.shape[0] + 2 * half, there.shape[1] + 2 * half), -1)
    number[half:-half, half:-half][there] = np.arange(len(x))
    rows, columns = wanted.nonzero()
    sums = block.around.bias.repeat(len(rows), 1)
    weight = block.around.weight.view(WIDTH, SIDE, SIDE).permute(1, 2, 0).contiguous()
    weigh_around(x.numpy(), number, rows, columns, weight.numpy(), sums.numpy())
    return x[torch.from_numpy(number[rows + half, columns + half])] + block.mix(sums)


def lazily(outputs: Sequence[Tensor], cuts: Sequence[int], branches: Mapping[int, Branch]) -> BranchedLogits:
    """Logits of which those of the branches are worked out where they are needed.

    `outputs` (1, channels, h, w) are the fused logits, of which classifier q has cuts[q] to cuts[q + 1], and then the
    maps that branches read.
    """
    logits, *maps = (one[0].permute(1, 2, 0) for one in outputs)
    values = logits.contiguous().numpy()
    known = {q: np.zeros(values.shape[:2], np.bool_) for q in branches}
    return BranchedLogits(values, cuts, {q: partial(few, branch, maps) for q, branch in branches.items()}, known)


def pack_branches(branches: Branches) -> str:
    """The weights of branches as text: safetensors in base64."""
    weights = {k: v.detach().cpu().contiguous() for k, v in branches.each.state_dict().items()}
    return base64.b64encode(save(weights)).decode()


def unpack_branches(packed: str, sizes: Mapping[int, int]) -> dict[int, Branch]:
    """What `pack_branches` wrote, for classifiers with so many logits; anything else raises ValueError."""
    try:
        weights = load(base64.b64decode(packed, validate=True))
        width, inputs = weights[f"{min(sizes)}.narrow.weight"].shape
        if width != WIDTH or not all(torch.isfinite(w).all() for w in weights.values()):
            raise ValueError("numbers that are not finite")
        each = {q: Branch(inputs, n) for q, n in sizes.items()}
        nn.ModuleDict({str(q): branch for q, branch in each.items()}).load_state_dict(weights)
    except (SafetensorError, KeyError, RuntimeError, TypeError) as error:
        raise ValueError("their sizes do not fit") from error
    return each
