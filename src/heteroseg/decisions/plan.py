"""A taxonomy and a question as tables, which the fast decisions read."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from heteroseg.decisions.reference import RULES, VOID, Rule, assumed_children
from heteroseg.decisions.tables import IntArray, Walk
from heteroseg.errors import require_one_of
from heteroseg.labels.space import OUTSIDE, LabelSpace
from heteroseg.labels.taxonomy import Taxonomy

VOID_LABEL = -2  # the label of a code that is void


@dataclass(frozen=True, eq=False)
class Plan:
    """What `decode` needs to know of a taxonomy (or label space) and a rule.

    `answer` is what is written, by code for the path rule and by label for the marginal one (OUTSIDE last).
    """

    tree: Taxonomy
    space: LabelSpace | None
    rule: Rule
    walk: Walk
    answer: IntArray


@lru_cache
def plan_decode(asked: Taxonomy | LabelSpace, rule: Rule = "path", ids: bool = False) -> Plan:
    """Prepare `decode`, once for each tree or label space, rule and kind of answer: equal ones share a plan.

    A taxonomy asks for nodes (int64, VOID -1), always by the path rule. A label space asks for label indices (int64,
    OUTSIDE -1), or with `ids` for its native ids (uint8, uint16 or int64). An unknown rule raises HeterosegError.
    """
    require_one_of("decision", rule, RULES)
    if isinstance(asked, Taxonomy):
        space, tree, rule, assumed = None, asked, "path", dict[int, int]()
    else:
        space, tree, assumed = asked, asked.taxonomy, assumed_children(asked)
    if space is None or (rule == "marginal" and tree.void):  # void logits under a node take a share of its probability
        ends = np.array([not children for children in tree.children])
    else:
        ends = space.stops
    codes = len(tree) + len(tree.classifiers)
    begin, end = np.full((2, codes), -1, np.int32)
    after = np.full(tree.channels, -1, np.int32)

    def down(node: int) -> int:
        while not ends[node] and (node in assumed or len(tree.children[node]) == 1):
            node = assumed.get(node, tree.children[node][0])
        return node

    for j, c in enumerate(tree.classifiers):
        if c.node not in assumed and not ends[c.node]:
            begin[c.node], end[c.node] = c.start, c.stop
        after[c.start : c.stop] = [*map(down, c.children), *([len(tree) + j] if tree.void else [])]
    label = np.full(codes, VOID_LABEL, np.int64)
    label[: len(tree)] = np.arange(len(tree)) if space is None else space.by_node
    last = label[after[begin[after] < 0]]  # the labels of all channels that end a walk
    single, closed = bool(np.bincount(last[last >= 0]).max(initial=0) < 2), OUTSIDE not in last
    if rule == "path" or space is None:
        answer = np.maximum(label, VOID)
    else:
        answer = np.append(np.arange(len(space.labels)), OUTSIDE)
    if ids and space is not None:
        answer = space.native_ids(answer)
    walk = Walk(down(0), begin, end, after, label, single, closed)
    return Plan(tree, space, rule, walk, answer)
