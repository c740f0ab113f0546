"""A stop string is found wherever the text is cut into pieces."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from skyfog_inference.stops import StopFinder


def run(stops: Sequence[str], pieces: Sequence[str]) -> tuple[str, bool]:
    """The text that comes out, and whether a stop string ended it."""
    finder, text = StopFinder(stops), ""
    for piece in pieces:
        certain, stopped = finder.push(piece)
        text += certain
        if stopped:
            return text, True
    return text + finder.finish(), False


@given(
    st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
    st.lists(st.text("abc", max_size=4), max_size=8),
)
def test_how_the_text_is_cut_makes_no_difference(stops: list[str], pieces: list[str]) -> None:
    whole = "".join(pieces)
    ends = [(whole.find(stop) + len(stop), whole.find(stop)) for stop in stops if stop in whole]
    text = whole[: min(ends)[1]] if ends else whole
    assert run(stops, pieces) == (text, bool(ends))
    assert run(stops, list(whole)) == (text, bool(ends))
