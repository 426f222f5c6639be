"""What the records of datasets share."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from heteroseg.datasets.sample import spread_evenly


def test_members_are_spread_from_the_first_to_the_last():
    assert spread_evenly("abcdefg", 3) == ["a", "d", "g"]
    assert spread_evenly("abc", 5) == ["a", "b", "c"]
    assert spread_evenly("abc", 1) == ["a"]
    assert spread_evenly("", 4) == []


@given(st.integers(0, 60), st.integers(1, 60))
def test_nothing_comes_twice_and_gaps_differ_by_one_at_most(length, count):
    places = spread_evenly(range(length), count)
    assert len(places) == min(length, count)
    gaps = {b - a for a, b in itertools.pairwise(places)}
    assert not gaps or (min(gaps) >= 1 and max(gaps) - min(gaps) <= 1)
