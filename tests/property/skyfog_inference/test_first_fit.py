"""An arena's books balance whatever is taken and given back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyfog_inference.tier import TierFull
from skyfog_inference.tiers.first_fit import FirstFit

CAPACITY = 1_000
ACTIONS = st.lists(st.tuples(st.booleans(), st.integers(1, 400), st.sampled_from([1, 7, 64])), max_size=60)


@given(ACTIONS)
def test_no_byte_is_lost_or_given_twice(actions: list[tuple[bool, int, int]]) -> None:
    books, taken = FirstFit("arena", CAPACITY), []
    for take, size, align in actions:
        if take or not taken:
            try:
                offset = books.take(size, align)
            except TierFull:
                continue
            assert offset % align == 0
            assert all(offset >= at + length or offset + size <= at for at, length in taken)
            taken.append((offset, size))
        else:
            books.give(*taken.pop(size % len(taken)))
        books.check()
        assert books.used == sum(length for _, length in taken)
    for span in taken:
        books.give(*span)
    books.check()
    assert books.take(CAPACITY, 1) == 0  # one hole again


def test_a_span_is_given_back_once_and_whole() -> None:
    books = FirstFit("arena", CAPACITY)
    offset = books.take(100, 1)
    with pytest.raises(ValueError, match="not given out"):
        books.give(offset, 99)
    books.give(offset, 100)
    with pytest.raises(ValueError, match="not given out"):
        books.give(offset, 100)
    with pytest.raises(ValueError, match="0 bytes"):
        books.take(0, 1)


def test_a_full_arena_says_what_is_free_and_in_which_pieces() -> None:
    books = FirstFit("arena", CAPACITY)
    first = books.take(400, 1)
    books.take(200, 1)
    books.give(first, 400)
    with pytest.raises(TierFull, match=r"arena: no room for 500 bytes; 800 of 1000 free, 400 in a piece"):
        books.take(500, 1)
