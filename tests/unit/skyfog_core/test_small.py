"""clock, ids, rng, units, membership: a few lines each."""

from __future__ import annotations

import pytest

from skyfog_core.clock import ManualClock
from skyfog_core.errors import WireError
from skyfog_core.ids import REQUEST_ID_BYTES, RequestIds
from skyfog_core.rng import stream
from skyfog_core.units import MS, US, S, ms_to_ns, ns_to_ms
from skyfog_core.wire.keys import ReplicaKey
from skyfog_core.wire.membership import Announcement, Membership, from_chunk, to_chunk

A, B = ReplicaKey("a", "0"), ReplicaKey("b", "0")


def test_a_manual_clock_moves_only_by_hand() -> None:
    clock = ManualClock(5)
    assert (clock.now_ns(), clock.now_ns()) == (5, 5)
    clock.advance(7)
    assert clock.now_ns() == 12


def test_a_manual_clock_never_goes_back() -> None:
    clock = ManualClock(5)
    with pytest.raises(ValueError, match="-1 ns"):
        clock.advance(-1)
    assert clock.now_ns() == 5


def test_ids_have_their_length_and_never_repeat_in_or_across_processes() -> None:
    first, second = RequestIds(), RequestIds()
    made = [ids.next() for _ in range(1_000) for ids in (first, second)]
    assert len(set(made)) == 2_000
    assert {len(i) for i in made} == {REQUEST_ID_BYTES}


def test_ids_are_reproducible_where_a_prefix_is_given() -> None:
    assert RequestIds(b"p" * 8).next() == b"p" * 8 + (1).to_bytes(8, "big")


def test_an_id_prefix_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="3 bytes"):
        RequestIds(b"abc")


def test_a_stream_does_not_depend_on_which_others_were_made_or_used() -> None:
    alone = stream(1, "faults").random()
    stream(1, "links").random()
    assert stream(1, "faults").random() == alone


@pytest.mark.parametrize("other", [stream(2, "a", "b"), stream(1, "a"), stream(1, "ab"), stream(1, "b", "a")])
def test_another_seed_or_name_is_another_stream(other) -> None:
    assert other.getrandbits(64) != stream(1, "a", "b").getrandbits(64)


def test_a_stream_is_the_same_on_every_machine_and_python() -> None:
    assert stream(7, "pinned").getrandbits(32) == 0xAFBE239A


def test_units_agree_with_each_other() -> None:
    assert (S // MS, MS // US) == (1_000, 1_000)
    assert ms_to_ns(1.5) == 1_500_000
    assert ns_to_ms(ms_to_ns(0.25)) == 0.25
    assert isinstance(ms_to_ns(0.1), int)


def test_membership_is_sorted_and_tells_news_from_repetition() -> None:
    members, old, new = Membership(), Announcement(boot=1), Announcement(boot=2)
    assert members.join(B, old)
    assert members.join(A, old)
    assert not members.join(A, old)
    assert members.live() == [A, B]
    assert members.leave(A, old)
    assert not members.leave(A, old)
    assert (A in members, B in members, len(members)) == (False, True, 1)
    assert members.join(B, new), "a new process has taken its place"
    assert not members.leave(B, old), "the old process's token goes later"
    assert members.said(B) == new


def test_an_announcement_survives_as_a_chunk_of_a_key() -> None:
    said = Announcement(boot=2**32 - 1, price_per_hour=0.0312, capacity=8, local=True)
    chunk = to_chunk(said)
    assert chunk.replace("-", "").replace("_", "").isalnum()
    assert from_chunk(chunk) == said


@pytest.mark.parametrize("chunk", ["", "A", "x", "A!!", "A" + "a" * 1_300, "AgQ", to_chunk(Announcement())[:-4]])
def test_a_chunk_that_is_no_announcement_is_refused(chunk: str) -> None:
    with pytest.raises(WireError, match="no announcement"):
        from_chunk(chunk)
