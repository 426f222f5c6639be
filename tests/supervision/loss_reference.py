"""A slow float64 reference of the loss, written from the mathematics in plain Python, and a small tree for it."""

import math
from functools import cache

import numpy as np
import torch

from heteroseg.labels.space import LabelSpace, LabelSpaceFile, build_label_space
from heteroseg.labels.taxonomy import Taxonomy, TaxonomyFile, build_taxonomy
from heteroseg.supervision.label_terms import build_terms
from heteroseg.supervision.loss import WEAK
from heteroseg.supervision.targets import offsets

TREE = {
    "root": ["sky", "ground", "thing"],
    "ground": ["road", "walk", "grass"],
    "road": ["asphalt", "lane"],
    "thing": ["human", "vehicle", "sign"],
    "human": ["person", "rider"],
    "vehicle": ["car"],  # an only child: nothing to decide
    "car": ["sedan", "van"],
    "sign": ["front", "back"],
    "front": ["stop", "give", "limit"],
}
SPACES = {
    "coarse": (None, ["sky", "ground", "thing", None, "root"]),
    "fine": (None, ["sky", ["road", "grass"], "asphalt", ["rider", "sedan"], ["walk", "back"], "person", "van", None]),
    "signs": ("front", ["stop", "give", None, "limit"]),
    "parents": (None, ["vehicle", ["stop", "give"], "sky", "front", ["walk", "person"]]),
    "things": ("thing", ["stop", "person", ["sedan", "back"], None]),
    "surrounded": ("root", ["stop", "limit"]),
}
AROUND = {"surrounded": "sign"}  # what the pixels around a space's boxes are not: one target more, behind its labels


def make_tree(void: bool, **more: list[str]) -> Taxonomy:
    return build_taxonomy(TaxonomyFile(name="t", tree={**TREE, **more}), void=void)


def make_space(tree: Taxonomy, name: str) -> LabelSpace:
    gate, labels = SPACES[name]
    entries = [
        {"id": i, "name": f"l{i}", "evaluate": False, **({"ignore": True} if nodes is None else {"nodes": nodes})}
        for i, nodes in enumerate(labels)
    ]
    around = {"excludes": AROUND[name]} if name in AROUND else None
    file = LabelSpaceFile(name=name, taxonomy="t", labels=entries, gate=gate, around_boxes=around)
    return build_label_space(file, tree)


class Reference:
    """What one pixel teaches, in plain Python from TREE and SPACES."""

    def __init__(self, tree: Taxonomy):
        self.starts = {tree.names[c.node]: c.start for c in tree.classifiers}
        self.void = tree.void
        self.parent = {child: node for node, kids in TREE.items() for child in kids}
        self.labels = []
        for name, (gate, labels) in SPACES.items():
            self.labels += [(gate, nodes) for nodes in labels]
            if name in AROUND:
                self.labels.append(("root", [n for n in self.leaves("root") if n not in self.leaves(AROUND[name])]))

    def path(self, node):
        return [node] if node == "root" else [*self.path(self.parent[node]), node]

    def leaves(self, node):
        return [leaf for kid in TREE[node] for leaf in self.leaves(kid)] if node in TREE else [node]

    def given_parent(self, logits, node):
        kids = TREE[self.parent[node]]
        if len(kids) == 1:
            return 1.0
        start = self.starts[self.parent[node]]
        scores = [math.exp(logits[start + i]) for i in range(len(kids) + self.void)]
        return scores[kids.index(node)] / sum(scores)

    def below(self, logits, node, leaves):
        """The probability of a set of leaves, given `node`; all leaves of a node together are the node itself."""
        mine = set(self.leaves(node))
        if mine <= leaves:
            return 1.0
        kids = TREE.get(node, []) if mine & leaves else []
        return sum(self.given_parent(logits, kid) * self.below(logits, kid, leaves) for kid in kids)

    def pixel(self, logits, label, kind, gate_kind):
        """{classifier: (nll, weight)} of a pixel."""
        gate, nodes = self.labels[label]
        if nodes is None:
            return {}
        leaves = {leaf for node in ([nodes] if isinstance(nodes, str) else nodes) for leaf in self.leaves(node)}
        top = max((n for n in (*self.parent, "root") if leaves <= set(self.leaves(n))), key=lambda n: len(self.path(n)))
        while top != "root" and len(TREE[self.parent[top]]) == 1:  # the same leaves, higher up
            top = self.parent[top]
        terms = {}
        for node in self.path(top)[1:]:
            if len(TREE[self.parent[node]]) > 1:
                terms[self.parent[node]] = -math.log(self.given_parent(logits, node))
        union = leaves != set(self.leaves(top))
        if union:
            while len(TREE[top]) == 1:
                top = TREE[top][0]
            terms[top] = -math.log(self.below(logits, top, leaves))
        factor = 1.0
        if kind == WEAK:
            gate = gate or (top if union or top == "root" else self.parent[top])
            terms = {owner: t for owner, t in terms.items() if gate in self.path(owner)}
            factor = self.gate(logits, gate, gate_kind)
        return {owner: (factor * t, float(factor > 0)) for owner, t in terms.items()}

    def gate_node(self, label):
        gate, nodes = self.labels[label]
        return gate or self.parent[nodes]

    def mixture(self, logits, groups, gate_kind):
        """{classifier: (nll, weight)} of a pixel that is known by (weight, labels): each group one of its labels."""
        terms = {}
        for weight, labels in groups:
            if len(labels) == 1:
                found = self.pixel(logits, labels[0], WEAK, gate_kind)
            else:
                gate = self.gate_node(labels[0])
                p = 0.0
                for label in labels:
                    nodes = self.labels[label][1]
                    nodes = [nodes] if isinstance(nodes, str) else nodes
                    p += self.below(logits, gate, {leaf for node in nodes for leaf in self.leaves(node)})
                factor = self.gate(logits, gate, "hard" if gate_kind == "open" else gate_kind)
                found = {gate: (-math.log(p) * factor, float(factor > 0))}
            for owner, (nll, count) in found.items():
                old = terms.get(owner, (0.0, 0.0))
                terms[owner] = (old[0] + weight * nll, old[1] + weight * count)
        return terms

    def gate(self, logits, gate, kind):
        steps = [n for n in self.path(gate)[1:] if len(TREE[self.parent[n]]) > 1]
        if kind == "open" or not steps:
            return 1.0
        if kind == "soft":
            return math.prod(self.given_parent(logits, n) for n in steps)
        kids = TREE[self.parent[steps[-1]]]
        start = self.starts[self.parent[steps[-1]]]
        return float(np.argmax(logits[start : start + len(kids) + self.void]) == kids.index(steps[-1]))


@cache
def world(void: bool):
    tree = make_tree(void)
    spaces = [make_space(tree, name) for name in SPACES]
    return tree, build_terms(spaces), Reference(tree), offsets(spaces)


def reference_sums(tree, ref, logits, labels, kind, gate, weights=None):
    names = [tree.names[c.node] for c in tree.classifiers]
    nll, weight = np.zeros((len(names), 2)), np.zeros((len(names), 2))
    for i, label in enumerate(labels.tolist()):
        w = 1.0 if weights is None else weights[i]
        for owner, (value, count) in (ref.pixel(logits[i].tolist(), label, kind, gate) if label >= 0 else {}).items():
            nll[names.index(owner), kind] += w * value
            weight[names.index(owner), kind] += w * count
    return nll, weight


def random_pixels(void: bool, n: int, seed: int = 0):
    tree, terms, ref, ends = world(void)
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, tree.channels, generator=g, dtype=torch.float64) * 3
    labels = torch.randint(-1, ends[-1], (n,), generator=g)
    ignored = torch.tensor([nodes is None for _, nodes in ref.labels])
    return tree, terms, ref, logits, torch.where(ignored[labels], -1, labels)
