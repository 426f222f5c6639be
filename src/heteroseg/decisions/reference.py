"""From fused logits to decided nodes, and to the labels of any label space: plain PyTorch, the reference of `exact`.

Two rules. `path` (the paper's): from the root along the larger child. `marginal`: p(label) is the sum over the leaves
that it covers, a node that it covers whole counted as one, and the largest wins; a pixel lies outside the space where
more than half of the mass does, or where void logits are certain.
"""

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from heteroseg.decisions.bilinear import cells_and_weight
from heteroseg.errors import require_between, require_one_of
from heteroseg.labels.space import OUTSIDE, LabelSpace
from heteroseg.labels.taxonomy import Taxonomy

Rule = Literal["path", "marginal"]
RULES: tuple[Rule, ...] = get_args(Rule)
Score = Literal["probability", "entropy", "logit"]
SCORES: tuple[Score, ...] = get_args(Score)
VOID = -1  # a classifier answered "not a child of this node"
LARGE = 1e30  # logits beyond it are held there
CERTAIN = 2.0**-24  # less than this for all leaves together, and that of void is 1 but for rounding
LANES = 64  # a whole number of vector registers on any machine


def finite(logits: Tensor) -> Tensor:
    """float32 logits within +-LARGE, so that no interpolation of infinities is undefined; NaN counts as the lowest."""
    return torch.nan_to_num(logits.float(), nan=-LARGE).clamp(-LARGE, LARGE)


def _between(low: Tensor, high: Tensor, weight: Tensor) -> Tensor:
    """Interpolate. Two products and a sum, each rounded, never fused: never decreasing in `low` or in `high`, which
    `exact` relies on, and the same bits on every machine."""
    return low * (1 - weight) + high * weight


def upsample(logits: Tensor, covers: tuple[int, int], rows: tuple[int, int], width: int) -> Tensor:
    """(B, C, h, w) logits of a padded image of size `covers` to (B, C, rows, width) float32, rows [start, stop).

    Bilinear with align_corners false, as torch.nn.functional.interpolate, but only for the rows that are asked for.
    """
    device = logits.device
    top, bottom, down = cells_and_weight(torch.arange(*rows, device=device).float(), covers[0], logits.shape[2])
    left, right, across = cells_and_weight(torch.arange(width, device=device).float(), covers[1], logits.shape[3])
    band = _between(finite(logits[:, :, top]), finite(logits[:, :, bottom]), down[:, None])  # not the whole map
    return _between(band[..., left], band[..., right], across)


def upsample_at(logits: Tensor, covers: tuple[int, int], rows: Tensor, columns: Tensor) -> Tensor:
    """(1, C, h, w) logits to (1, C, 1, N) float32 at N pixels (int64 rows and columns); the bits of `upsample`."""
    top, bottom, down = cells_and_weight(rows.float(), covers[0], logits.shape[2])
    left, right, across = cells_and_weight(columns.float(), covers[1], logits.shape[3])
    sides = [_between(finite(logits[:, :, top, at]), finite(logits[:, :, bottom, at]), down) for at in (left, right)]
    return _between(sides[0], sides[1], across)[:, :, None]


def in_lanes(logits: Tensor) -> Tensor:
    """(B, C, H, W) to (B, C, 1, N): H * W pixels and zeros up to a multiple of LANES.

    Torch's softmax and sums round differently for the last few pixels that fill no vector register. Without such a rest
    the probabilities of a pixel have the same bits in any image and at any place, which `exact` relies on.
    """
    flat = logits.flatten(2)
    return F.pad(flat, (0, -flat.shape[2] % LANES))[:, :, None]


def _path_probs(logits: Tensor, tree: Taxonomy) -> list[Tensor]:
    """(B, C, H, W) fused logits to the product (B, H, W) of the softmaxes on each node's path."""
    tree.require_logits(logits.shape)
    probs = [logits.new_ones((logits.shape[0], *logits.shape[2:]))] * len(tree)
    softmaxes = {c.node: logits[:, c.start : c.stop].softmax(1) for c in tree.classifiers}
    for node in (n for n, children in enumerate(tree.children) if children):  # a parent comes before its children
        parts = probs[node].unsqueeze(1)  # an only child is as likely as its parent
        parts = parts * softmaxes[node] if node in softmaxes else parts
        for child, part in zip(tree.children[node], parts.unbind(1), strict=False):  # void is the last
            probs[child] = part
    return probs


def leaf_probs(logits: Tensor, tree: Taxonomy) -> Tensor:
    """(B, C, H, W) fused logits to (B, leaves, H, W): the product of the softmaxes on each leaf's path.

    Sums to 1 over the leaves, or to less where void logits take their share.
    """
    probs = _path_probs(logits, tree)
    return torch.stack([probs[leaf] for leaf in tree.leaves], 1)


def log_probs(logits: Tensor, tree: Taxonomy) -> Tensor:
    """(B, C, H, W) fused logits to the log of the probability of each channel's node, or of its void answer.

    These are logits of the same tree: every classifier's differ by log p(its node) alone.
    """
    out = torch.empty_like(logits)
    for c in tree.classifiers:
        above = out[:, tree.steps[c.node][-1:]].sum(1, keepdim=True)  # nothing is above the root
        out[:, c.start : c.stop] = logits[:, c.start : c.stop].log_softmax(1) + above
    return out


def node_probs(logits: Tensor, tree: Taxonomy) -> list[Tensor]:
    """(B, C, H, W) fused logits to the probability (B, H, W) of each node.

    Of the same bits whatever hangs below it; with void logits it is the sum over its leaves.
    """
    probs = _path_probs(logits, tree)
    for n in reversed(range(len(tree))) if tree.void else ():
        if tree.children[n]:
            probs[n] = torch.stack([probs[k] for k in tree.children[n]]).sum(0)
    return probs


def back_off(logits: Tensor, tree: Taxonomy, min_probability: float | list[float]) -> Tensor:
    """(B, C, H, W) fused logits to (B, H, W) int64 nodes: down along the likelier child while it is likely enough.

    That is while its probability is at least `min_probability`, a number, or one for each depth below the root. With 0
    every pixel ends at a leaf. A single number that is not from 0 to 1 raises HeterosegError.
    """
    least = min_probability
    if not isinstance(least, list):
        require_between("back_off", least, 0, 1)
        least = [least] * max(tree.depths)
    probs = node_probs(logits, tree)
    node = torch.zeros(logits.shape[0], *logits.shape[2:], dtype=torch.long, device=logits.device)
    for n in range(len(tree)):  # depth first: a parent comes before its children
        reached = node == n
        if tree.children[n] and bool(reached.any()):
            best, at = torch.stack([probs[k][reached] for k in tree.children[n]]).max(0)
            children = torch.tensor(tree.children[n], device=logits.device)
            node[reached] = torch.where(best >= least[tree.depths[n]], children[at], n)
    return node


def novelty(logits: Tensor, tree: Taxonomy, score: Score) -> Tensor:
    """(B, C, H, W) fused logits to (B, H, W) float32: the larger, the less a pixel fits anything that was trained.

    `probability`: 1 - p(likeliest leaf) (Hendrycks & Gimpel, ICLR 2017). `entropy`: that of the leaves, over that of
    equal leaves. `logit`: minus the smallest of the largest logits on the decided path, after the largest logit of
    Hendrycks et al. (ICML 2022): one classifier that recognises nothing is enough, at whatever depth. What goes to
    void logits counts as one more leaf, and a pixel decided void is as novel as can be. Others raise HeterosegError.
    """
    require_one_of("novelty", score, SCORES)
    if score == "logit":
        nodes = decide(logits, tree)
        smallest = torch.full(nodes.shape, LARGE, device=logits.device)
        for c in tree.classifiers:
            inside = torch.tensor([c.node in tree.path(n) for n in range(len(tree))], device=logits.device)
            largest = logits[:, c.start : c.start + len(c.children)].amax(1)
            smallest = torch.where(inside[nodes], torch.minimum(smallest, largest), smallest)
        return torch.where(nodes == VOID, LARGE, -smallest)
    probs = leaf_probs(logits, tree)
    if score == "probability":
        return 1 - probs.amax(1)
    void = (1 - probs.sum(1, keepdim=True)).clamp(min=0) if tree.void else probs[:, :0]
    entropy: Tensor = torch.special.entr(torch.cat([probs, void], 1)).sum(1)
    return entropy / math.log(max(len(tree.leaves) + tree.void, 2))


def decide(
    logits: Tensor, tree: Taxonomy, stops: Tensor | None = None, assumed: dict[int, int] | None = None
) -> Tensor:
    """(B, C, H, W) fused logits to (B, H, W) int64 nodes by the path rule.

    Ends at leaves, or earlier at nodes where `stops` (nodes,) bool is true. `assumed` maps an inner node to the child
    that is taken for granted there. VOID where a classifier's void logit is the largest. On ties the first child wins.
    """
    tree.require_logits(logits.shape)
    batch, _, height, width = logits.shape
    node = torch.zeros(batch, height, width, dtype=torch.long, device=logits.device)
    stop = [not kids for kids in tree.children] if stops is None else stops.tolist()
    assumed = assumed or {}
    for n in sorted(range(len(tree)), key=tree.depths.__getitem__):
        if stop[n] or not tree.children[n]:
            continue
        reached = node == n
        if n in assumed or len(tree.children[n]) == 1:
            node[reached] = assumed.get(n, tree.children[n][0])
        elif bool(reached.any()):
            c = tree.classifiers[tree.classifier_of[n]]
            children = torch.tensor([*c.children, *([VOID] if tree.void else [])], device=logits.device)
            image, row, column = reached.nonzero(as_tuple=True)
            node[reached] = children[logits[image, c.start : c.stop, row, column].argmax(1)]
    return node


def assumed_children(space: LabelSpace) -> dict[int, int]:
    """Inner nodes and the child that `space` takes for granted there."""
    nodes = [space.taxonomy.index(name) for name in space.file.assume]
    return {space.taxonomy.parents[n]: n for n in nodes}


def label_map(logits: Tensor, space: LabelSpace, rule: Rule = "marginal") -> Tensor:
    """(B, C, H, W) fused logits to (B, H, W) int64 label indices, OUTSIDE where it is none of the labels.

    The plain reference: logits at full size, any floating point type, on any device. On ties the first child (path) or
    label (marginal) wins.

    Examples:
        >>> import torch
        >>> from heteroseg import label_map, load_label_space
        >>> space = load_label_space("camvid11")
        >>> logits = torch.zeros(1, space.taxonomy.channels, 1, 2)
        >>> logits[:, space.taxonomy.channel_of[space.taxonomy.index("sky")], 0, 0] = 9.0
        >>> first, second = label_map(logits, space)[0, 0].tolist()
        >>> space.labels[first].name
        'Sky'
    """
    require_one_of("rule", rule, RULES)
    if rule == "path":
        nodes = decide(logits, space.taxonomy, torch.from_numpy(space.stops), assumed_children(space))
        table = torch.from_numpy(space.by_node).to(logits.device)
        return torch.where(nodes == VOID, OUTSIDE, table[nodes.clamp(min=0)])
    return best_label(logits, space)[0]


def best_label(logits: Tensor, space: LabelSpace) -> tuple[Tensor, Tensor]:
    """(B, C, H, W) fused logits to (B, H, W) by the marginal rule: int64 label indices, OUTSIDE where it
    is none, and the float32 probability of that label, or of all that lies outside; of void where that is certain."""
    space.taxonomy.require_logits(logits.shape)
    batch, _, height, width = logits.shape
    labels, total = label_probs(in_lanes(logits), space)
    inside = labels.sum(1)
    void = total < CERTAIN
    fits = (inside >= 0.5 * total) & ~void
    label = torch.where(fits, labels.argmax(1), OUTSIDE)
    probs = torch.where(fits, labels.amax(1), torch.where(void, 1 - total, total - inside))
    pixels = height * width
    return label[:, 0, :pixels].view(batch, height, width), probs[:, 0, :pixels].view(batch, height, width)


def label_probs(logits: Tensor, space: LabelSpace) -> tuple[Tensor, Tensor]:
    """(B, C, H, W) fused logits to (B, labels, H, W) probabilities of the labels and (B, H, W) of all leaves.

    Finer nodes under those of a label change no bit of them, as they are not asked.
    """
    tree, assumed = space.taxonomy, assumed_children(space)
    tree.require_logits(logits.shape)
    logits = logits.clone() if assumed else logits
    for parent, child in assumed.items():  # which then has probability 1, given its parent
        if (owner := tree.classifier_of[parent]) >= 0:
            logits[:, tree.classifiers[owner].start : tree.classifiers[owner].stop] = -torch.inf
            logits[:, tree.channel_of[child]] = 0.0
    probs = node_probs(logits, tree)
    none = torch.zeros_like(probs[0])
    labels = [none] * len(space.labels)
    for node in space.whole_nodes:  # one by one: index_add_ on a GPU adds in any order
        before = labels[space.by_node[node]]
        labels[space.by_node[node]] = probs[node] if before is none else before + probs[node]
    return torch.stack(labels, 1), probs[0]
