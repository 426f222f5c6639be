"""Damage to files, as Hypothesis draws it: bytes anywhere, and values of another kind in data."""

import copy
from typing import Any

from hypothesis import strategies as st

TOKENS = [
    *(c.encode() for c in "\"'{}[]<>&,:;=|-#!*%@\\/ \n\r\t\0"),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\xff", b"\xc3\xa4", b"a\xcc\x88", b"\xe2\x80\xa8", b"\\ud800", b"\\u0000"),
    *(b"null", b"true", b"no", b"0", b"-1", b"1e999", b"NaN", b"Infinity", b".inf", b"0x1f", b"017", b"1_0", b"1.0"),
    *(b"9" * 30, b"9" * 5000, b"[" * 3000, b"{" * 3000, b"2024-13-45", b"2024-01-31", b"12:30", b"\xd9\xa3"),
    *(b"&a ", b"*a", b"<<: *a", b"!!python/name:os", b"- ", b"? ", b"---\n", b"&lt;", b"&x;", b"<!DOCTYPE a>", b"../"),
]
VALUES = st.sampled_from(
    [None, True, False, 0, 1, -1, 2, 10**30, 2**31, 1e308, -1e308, 0.5, float("nan"), float("inf"), "", "1", "x", " 3"]
    + ["9" * 5000, "\ud800", "im0.png", "../im0.png", "car", "C:\\im0.png", [], {}, [[]], [None], {"a": 1}, [[1, 2]]]
    + [[1, 2, 3, 4, 5, 6], [True] * 6, {"size": [12, 16], "counts": "x"}, {"size": [12, 16], "counts": [192]}]
)


@st.composite
def damaged(draw, content: bytes) -> bytes:
    """The content with a few parts taken out, repeated or replaced."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        stop = draw(
            st.just(start) | st.integers(start, min(len(content), start + 12)) | st.integers(start, len(content))
        )
        other = draw(st.integers(0, len(content)))
        part = draw(
            st.sampled_from(TOKENS) | st.binary(max_size=3) | st.just(b"") | st.just(content[other : other + 20])
        )
        content = content[:start] + part + content[stop:]
    return content


@st.composite
def damaged_json(draw, data: Any) -> Any:
    """Data in which a few values are of another kind, missing, doubled or under another key."""
    data = copy.deepcopy(data)
    for _ in range(draw(st.integers(1, 2))):
        inside = data
        while True:
            keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(inside[key], dict | list) and draw(st.integers(0, 5)):
                inside = inside[key]
                continue
            change = draw(st.sampled_from(["value", "value", "value", "gone", "twice", "shallow copy"]))
            if change == "value":
                inside[key] = copy.deepcopy(draw(VALUES))
            elif change == "gone":
                del inside[key]
            elif isinstance(inside, list):
                inside.append(copy.deepcopy(inside[key]) if change == "twice" else copy.deepcopy(draw(VALUES)))
            else:
                inside[f"{key}_"] = inside.pop(key)
            break
    return data
