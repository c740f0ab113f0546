"""Answers that are kept for who asks again: bounded, the newest always there."""

from __future__ import annotations

from skyfog_router.kept import OVERHEAD_BYTES, Kept

SIZE = 1_000


def fill(kept: Kept[int], count: int) -> None:
    for n in range(count):
        kept.keep(bytes([n]), n, SIZE)


def test_an_answer_is_found_by_its_request_and_no_other() -> None:
    kept: Kept[int] = Kept()
    fill(kept, 3)
    assert [kept.find(bytes([n])) for n in range(4)] == [0, 1, 2, None]


def test_the_oldest_go_when_there_is_no_more_room() -> None:
    kept: Kept[int] = Kept(max_bytes=3 * (SIZE + OVERHEAD_BYTES))
    fill(kept, 10)
    assert [n for n in range(10) if kept.find(bytes([n])) is not None] == [7, 8, 9]


def test_the_newest_is_kept_whatever_its_size() -> None:
    kept: Kept[int] = Kept(max_bytes=3 * SIZE)
    fill(kept, 2)
    kept.keep(b"large", 7, 100 * SIZE)
    assert kept.find(b"large") == 7
    fill(kept, 2)
    assert kept.find(b"large") is None
    assert kept.find(bytes([1])) == 1


def test_the_first_answer_of_a_request_stays() -> None:
    kept: Kept[int] = Kept()
    kept.keep(b"x", 1, SIZE)
    kept.keep(b"x", 2, SIZE)
    assert kept.find(b"x") == 1
