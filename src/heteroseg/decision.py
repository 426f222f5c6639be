"""From fused logits to decided nodes, and to the labels of any label space.

Two rules. `path` (the paper's): from the root along the larger child. `marginal`: p(label) is the sum over the leaves
that it covers, and the largest wins; a pixel lies outside the space where more than half of the mass does.
"""

from typing import Literal

import torch
from torch import Tensor

from heteroseg.labelspace import LabelSpace
from heteroseg.taxonomy import Taxonomy

Rule = Literal["path", "marginal"]
VOID = -1  # a classifier answered "not a child of this node"
OUTSIDE = -1  # not a label of the space


def _neighbours(full: int, small: int, start: int, stop: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Lower and upper cell and the upper one's weight, for pixels start to stop of `full` (align_corners false)."""
    position = ((torch.arange(start, stop, device=device) + 0.5) * (small / full) - 0.5).clamp(min=0)
    low = position.long().clamp(max=small - 1)
    return low, (low + 1).clamp(max=small - 1), position - low


def upsample(logits: Tensor, covers: tuple[int, int], rows: tuple[int, int], width: int) -> Tensor:
    """(B, C, h, w) logits of a padded image of size `covers` to (B, C, rows, width) pixels of rows [start, stop).

    Bilinear with align_corners false, as torch.nn.functional.interpolate, but only for the rows that are asked for.
    """
    top, bottom, down = _neighbours(covers[0], logits.shape[2], *rows, logits.device)
    left, right, across = _neighbours(covers[1], logits.shape[3], 0, width, logits.device)
    band = torch.lerp(logits[:, :, top].float(), logits[:, :, bottom].float(), down[:, None])
    return torch.lerp(band[..., left], band[..., right], across)


def leaf_probs(logits: Tensor, tree: Taxonomy) -> Tensor:
    """(B, C, H, W) fused logits to (B, leaves, H, W): the product of the softmaxes on each leaf's path.

    Sums to 1 over the leaves, or to less where void logits take their share.
    """
    node: dict[int, Tensor] = {0: logits.new_ones((logits.shape[0], *logits.shape[2:]))}
    _only_children(0, tree, node)
    for c in tree.classifiers:
        probs = logits[:, c.start : c.stop].softmax(1)
        for i, child in enumerate(c.children):
            node[child] = node[c.node] * probs[:, i]
            _only_children(child, tree, node)
    return torch.stack([node[leaf] for leaf in tree.leaves], 1)


def _only_children(node: int, tree: Taxonomy, known: dict[int, Tensor]) -> None:
    while len(tree.children[node]) == 1:
        child = tree.children[node][0]
        known[child] = known[node]
        node = child


def decide(logits: Tensor, tree: Taxonomy, stops: Tensor | None = None, assume: dict[int, int] | None = None) -> Tensor:
    """(B, C, H, W) fused logits to (B, H, W) int64 nodes by the path rule.

    Ends at leaves, or earlier at nodes where `stops` (nodes,) bool is true. `assume` maps an inner node to the child
    that is taken for granted there. VOID where a classifier's void logit is the largest. On ties the first child wins.
    """
    batch, _, height, width = logits.shape
    node = torch.zeros(batch, height, width, dtype=torch.long, device=logits.device)
    stop = [not kids for kids in tree.children] if stops is None else stops.tolist()
    assume = assume or {}
    for n in sorted(range(len(tree)), key=tree.depth):
        if stop[n] or not tree.children[n]:
            continue
        here = node == n
        if n in assume or len(tree.children[n]) == 1:
            node[here] = assume.get(n, tree.children[n][0])
        elif bool(here.any()):
            c = tree.classifiers[tree.classifier_of[n]]
            children = torch.tensor([*c.children, *([VOID] if c.void else [])], device=logits.device)
            image, row, column = here.nonzero(as_tuple=True)
            node[here] = children[logits[image, c.start : c.stop, row, column].argmax(1)]
    return node


def granted(space: LabelSpace) -> dict[int, int]:
    """Inner nodes and the child that `space` takes for granted there."""
    nodes = [space.taxonomy.index(name) for name in space.file.assume]
    return {space.taxonomy.parents[n]: n for n in nodes}


def label_map(logits: Tensor, space: LabelSpace, rule: Rule = "marginal") -> Tensor:
    """(B, C, H, W) fused logits to (B, H, W) int64 positions in `space.labels`, OUTSIDE where it is none of them."""
    if rule == "path":
        nodes = decide(logits, space.taxonomy, torch.from_numpy(space.stops), granted(space))
        table = torch.from_numpy(space.by_node).to(logits.device)
        return torch.where(nodes == VOID, OUTSIDE, table[nodes.clamp(min=0)])
    labels, total = label_probs(logits, space)
    return torch.where(labels.sum(1) >= 0.5 * total, labels.argmax(1), OUTSIDE)


def label_probs(logits: Tensor, space: LabelSpace) -> tuple[Tensor, Tensor]:
    """(B, C, H, W) fused logits to (B, labels, H, W) probabilities of the labels and (B, H, W) of all leaves."""
    tree = space.taxonomy
    probs = leaf_probs(_granted(logits, tree, granted(space)), tree)
    by_leaf = torch.from_numpy(space.by_leaf).to(logits.device)
    labels = logits.new_zeros((len(logits), len(space.labels), *logits.shape[2:]))
    labels.index_add_(1, by_leaf[by_leaf >= 0], probs[:, by_leaf >= 0])
    return labels, probs.sum(1) if tree.void else torch.ones_like(labels[:, 0])


def confidence(logits: Tensor, space: LabelSpace, rule: Rule = "marginal") -> Tensor:
    """(B, C, H, W) fused logits to (B, H, W): the probability of what `label_map` answers; outside, of all that is no
    label of the space."""
    labels, total = label_probs(logits, space)
    found = label_map(logits, space, rule)
    return torch.where(found == OUTSIDE, total - labels.sum(1), labels.gather(1, found.clamp(min=0)[:, None])[:, 0])


def _granted(logits: Tensor, tree: Taxonomy, assume: dict[int, int]) -> Tensor:
    """Logits in which assumed children have probability 1 given their parent."""
    if not assume:
        return logits
    logits = logits.clone()
    for parent, child in assume.items():
        owner = tree.classifier_of[parent]
        if owner >= 0:
            c = tree.classifiers[owner]
            logits[:, c.start : c.stop] = -torch.inf
            logits[:, tree.channel_of[child]] = 0.0
    return logits


def native_ids(labels: Tensor, space: LabelSpace) -> Tensor:
    """Positions in `space.labels` to ids as the dataset stores them; OUTSIDE becomes `space.outside`."""
    table = torch.from_numpy(space.ids).to(labels.device)
    return torch.where(labels == OUTSIDE, space.outside, table[labels.clamp(min=0)])
