from collections.abc import Sequence

import pytest

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


@pytest.mark.parametrize(
    ("stops", "pieces", "text", "stopped"),
    [
        ((), ["a", "b"], "ab", False),
        (("END",), ["one E", "N", "D two"], "one ", True),
        (("END",), ["one E", "N", "d"], "one ENd", False),
        (("aab",), ["a", "a", "a", "b"], "a", True),
        (("bc", "abcd"), ["abcd"], "a", True),  # what ends first counts, not what begins first
        (("bc", "abc"), ["xabc"], "x", True),  # of two that end together the longest
        (("\n\n",), ["x\n", "\ny"], "x", True),
        (("é",), ["th", "é!"], "th", True),
    ],
)
def test_text_ends_before_the_stop_string(stops: Sequence[str], pieces: list[str], text: str, stopped: bool) -> None:
    assert run(stops, pieces) == (text, stopped)


def test_what_may_begin_a_stop_string_waits() -> None:
    finder = StopFinder(["</s>"])
    assert finder.push("a<") == ("a", False)
    assert finder.push("/s") == ("", False)
    assert finder.push("!") == ("</s!", False)
