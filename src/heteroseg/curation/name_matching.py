"""How near the name of a label is to that of a node.

It compares words with a shipped table of synonyms and kinds, then the spelling, then word vectors if the extra `words`
is installed. It needs no network.
"""

import re
from difflib import SequenceMatcher
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from heteroseg.files import SPECS, read_yaml

SAME, KIND, PART, RELATED, SPELLING, MEANING = 1.0, 0.75, 0.6, 0.4, 0.6, 0.4
FARTHER = 0.9  # factor for each further step of `broader`
ALIKE, LONG = 0.8, 6  # least similarity of spelling that counts, and length of the names
REST = {"other", "others", "fallback", "misc", "miscellaneous"}
NEAR = 0.4  # least cosine of word vectors that counts


@cache
def words() -> dict[str, Any]:
    """The shipped table, specs/words.yaml, with the phrase that stands for each phrase as `same`."""
    data = read_yaml(SPECS / "words.yaml").data
    return data | {"same": {phrase: line[0] for line in data["same"] for phrase in line}}


def _tokens(name: str) -> list[str]:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    tokens = [words()["short"].get(w, w) for w in re.findall(r"[a-z0-9]+", spaced.lower())]
    for i, word in reversed(list(enumerate(tokens[:-1]))):
        if word == "non":
            tokens[i : i + 2] = [f"non-{tokens[i + 1]}"]
    singular = [w[:-1] if len(w) > 3 and w.endswith("s") and not w.endswith(("ss", "us")) else w for w in tokens]
    return [w for w in singular if w not in words()["fillers"]] or singular


def is_rest(name: str) -> bool:
    """Whether a name means what is left of a kind, such as `other vehicle`."""
    return not REST.isdisjoint(re.findall(r"[a-z]+", name.lower()))


def _phrases(tokens: list[str]) -> list[str]:
    """Tokens cut into known phrases, the longest first, each as the one that stands for it; the rest word by word."""
    same, result, i = words()["same"], [], 0
    while i < len(tokens):
        for end in range(min(len(tokens), i + 3), i, -1):
            phrase = " ".join(tokens[i:end])
            if phrase in same or phrase in words()["broader"] or end == i + 1:
                result.append(same.get(phrase, phrase))
                i = end
                break
    return result


@cache
def meanings(name: str) -> tuple[tuple[str, ...], ...]:
    """What a name may mean, each as phrases: `truck or bus` and `Truck_Bus` mean two things, `road shoulder` one."""
    listed = {*words()["broader"], *words()["same"].values()}
    result: list[tuple[str, ...]] = []
    for part in re.split(r"\s+or\s+|\s*[/,;]\s*", name):
        phrases = tuple(_phrases(_tokens(part)))
        if len(phrases) > 1 and all(p in listed for p in phrases):
            result += [(p,) for p in phrases]
        elif phrases:
            result.append(phrases)
    return tuple(dict.fromkeys(result))


def above(meaning: tuple[str, ...]) -> dict[str, int]:
    """All broader phrases of the noun, the last phrase, with the steps to each; the noun itself is 0 steps away."""
    noun = next((p for p in reversed(meaning) if not p.startswith("non-")), meaning[-1])
    steps, waiting = {noun: 0}, [noun]
    for phrase in waiting:  # grows while it is walked
        for wider in words()["broader"].get(phrase, ()):
            if wider not in steps:
                steps[wider] = steps[phrase] + 1
                waiting.append(wider)
    return steps


@cache
def relation(label: str, node: str) -> tuple[float, str]:
    """How near two names are: a score from 0 to 1, and a word that says how.

    The word is `same`, `kind` (the node is a kind or part of the label), `part` (the label is one of the node),
    `related` (both are kinds of one thing), `spelling`, `meaning` (near as word vectors), or empty if the score is 0.
    """
    best = max((_compared(a, b) for a in meanings(label) for b in meanings(node)), default=(0.0, ""))
    several = len(meanings(label)) > 1 or len(meanings(node)) > 1
    return (0.9, "same") if best[1] == "same" and several and meanings(label) != meanings(node) else best


def _compared(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[float, str]:
    if a == b:
        return SAME, "same"
    if any(len(p.split()[0]) == 1 for p in (*a, *b)):
        return 0.0, ""  # a code such as d_uneven_road: a sign, no road
    up_a, up_b = above(a), above(b)
    for score, kind, wide, narrow, up in ((KIND, "kind", a, b, up_b), (PART, "part", b, a, up_a)):
        if set(wide) < set(narrow):
            return score, kind
        if len(wide) == 1 and wide[0] in up:
            return score * FARTHER ** (up[wide[0]] - 1), kind
    shared = [max(up_a[p], up_b[p]) for p in up_a.keys() & up_b.keys()]
    if shared:
        return RELATED * FARTHER ** max(min(shared) - 1, 0), "related"
    one, two = " ".join(a), " ".join(b)
    if ("non-" in one) != ("non-" in two):
        return 0.0, ""
    ratio = SequenceMatcher(None, one, two).ratio()
    if ratio >= ALIKE and min(len(one), len(two)) >= LONG:
        return SPELLING * ratio, "spelling"
    cosine = float(_vector(one) @ _vector(two)) if _vectors() else 0.0
    return (MEANING * cosine, "meaning") if cosine >= NEAR else (0.0, "")


@cache
def _vectors() -> tuple[Any, np.ndarray] | None:
    """The tokenizer and the (tokens, 256) vectors that the package wordllama carries, if it is installed.

    Read without importing it, since its import reconfigures logging.
    """
    package = find_spec("wordllama")
    if package is None or package.origin is None:
        return None
    from tokenizers import Tokenizer

    folder = Path(package.origin).parent
    tokenizer = Tokenizer.from_file(str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    weights = load_file(folder / "weights" / "l2_supercat_256.safetensors")
    return tokenizer, next(iter(weights.values())).astype(np.float32)


@cache
def _vector(words: str) -> np.ndarray:
    """(256,) the mean of the words' vectors, of length 1."""
    loaded = _vectors()
    assert loaded is not None
    tokenizer, table = loaded
    mean = table[tokenizer.encode(words, add_special_tokens=False).ids].mean(0)
    return mean / np.linalg.norm(mean)
