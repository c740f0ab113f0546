"""NEO's rules one by one, with costs made by hand."""

from __future__ import annotations

import pytest

from skyfog_inference.cost.flat import FlatCost
from skyfog_inference.request import Place, Sequence
from skyfog_inference.scheduler.base import Chunk
from skyfog_inference.scheduler.neo_rules import (
    Budget,
    Load,
    NeoConfig,
    drop_host_prefills,
    form,
    remains,
    split_host_decodes,
    two_are_better,
)

LAUNCH = 0.8


def decode(context: int, place: Place = Place.HOST) -> Chunk:
    return Chunk(Sequence(f"d{context}", [0] * context, 1, 9, 0), context - 1, 1, place, draws=True)


def prefill(tokens: int, place: Place = Place.DEVICE) -> Chunk:
    return Chunk(Sequence(f"p{tokens}", [0] * tokens, tokens, 9, 0), 0, tokens, place, draws=True)


def pair_of(cost: FlatCost, *chunks: Chunk) -> tuple[Load, Load]:
    """Two loads, the first with prefills and decodes of the device."""
    pair = (Load(cost, LAUNCH), Load(cost, LAUNCH))
    for chunk in chunks:
        (pair[0].add_prefill if chunk.count > 1 else pair[0].add_device_decode)(chunk)
    return pair


def lengths(chunks: list[Chunk] | tuple[Chunk, ...]) -> list[int]:
    return [chunk.start + 1 for chunk in chunks]


def test_what_remains_is_the_published_formula() -> None:
    cost = FlatCost(linear_token_ms=1.0, prefill_token_ms=0.1, device_token_ms=0.01, host_token_ms=0.02)
    pair = pair_of(cost, prefill(20), decode(100, Place.DEVICE))
    pair[0].add_host_decode(decode(50))
    pair[1].add_host_decode(decode(200))
    assert remains(pair) == pytest.approx((1.0 + 2.0 + 1.0 - (1.0 + LAUNCH), 22.0 - (4.0 + LAUNCH)))


def test_the_launch_is_counted_even_where_nothing_is_on_the_host() -> None:
    assert remains(pair_of(FlatCost())) == (-LAUNCH, -LAUNCH)


def test_the_first_decode_of_the_host_goes_to_b1_and_the_next_to_where_more_remains() -> None:
    # b1 hides 100 ms, b0 hides 30 ms of host attention; each decode takes 10 ms there and adds nothing elsewhere.
    cost = FlatCost(linear_base_ms=20.0, linear_token_ms=0.0, device_token_ms=0.1, host_sequence_ms=10.0)
    pair = pair_of(cost, decode(200, Place.DEVICE))
    split_host_decodes(pair, [decode(n) for n in (1, 2, 3)], Budget(9, 9))
    # remains before: b0 20 + 20 - 0.8 once b1 is not empty, b1 20 - 0.8; after the first: 39.2 and 9.2.
    assert lengths(pair[1].host_decodes) == [1]
    assert lengths(pair[0].host_decodes) == [2, 3]


def test_a_decode_that_does_not_hide_is_left_out_with_all_that_are_not_shorter() -> None:
    cost = FlatCost(linear_base_ms=10.0, host_token_ms=1.0)
    pair = pair_of(cost, decode(5, Place.DEVICE))
    budget = Budget(9, 9)
    split_host_decodes(pair, [decode(n) for n in (4, 7, 7, 8, 6, 3)], budget)
    # 4 goes to b1, where 5.2 remain; b0 has 9.2: 7 fits, and leaves 2.2. The second 7 does not fit into b1, so the 8
    # is not tried; 6 is tried since it is shorter, and does not fit; 3 does.
    assert lengths(pair[1].host_decodes) == [4, 3]
    assert lengths(pair[0].host_decodes) == [7]
    assert (budget.sequences, budget.tokens) == (6, 6)


def test_one_left_out_stays_out_even_where_the_other_batch_would_hide_it() -> None:
    cost = FlatCost(linear_base_ms=10.0, device_token_ms=0.1, host_token_ms=1.0)
    pair = pair_of(cost, decode(200, Place.DEVICE))
    split_host_decodes(pair, [decode(n) for n in (12, 3, 12, 11)], Budget(9, 9))
    # The first would have to hide in b1, where 9.2 ms remain; b0 has 29.2 by then, but 12 is out.
    assert (lengths(pair[1].host_decodes), lengths(pair[0].host_decodes)) == ([3], [11])


def test_decodes_of_the_host_end_with_the_budget() -> None:
    pair = pair_of(FlatCost(linear_base_ms=100.0), decode(5, Place.DEVICE))
    split_host_decodes(pair, [decode(n) for n in (1, 2, 3)], Budget(2, 9))
    assert sum(len(load.host_decodes) for load in pair) == 2


def test_prefills_for_the_host_are_dropped_while_the_batch_keeps_128_tokens() -> None:
    load = Load(FlatCost(), LAUNCH)
    for tokens in (60, 70, 80, 90):
        load.add_prefill(prefill(tokens, Place.HOST))
    assert len(drop_host_prefills(load, 128, lambda: True)) == 2
    assert [chunk.count for chunk in load.prefills] == [60, 70]
    assert load.tokens == 130


def test_a_prefill_for_the_device_is_never_dropped() -> None:
    load = Load(FlatCost(), LAUNCH)
    load.add_prefill(prefill(300, Place.HOST))
    load.add_prefill(prefill(300, Place.DEVICE))
    assert drop_host_prefills(load, 128, lambda: True) == []


def test_a_prefill_for_the_host_stays_where_the_hosts_decodes_need_it_to_hide() -> None:
    load = Load(FlatCost(), LAUNCH)
    for tokens in (200, 300):
        load.add_prefill(prefill(tokens, Place.HOST))
    assert drop_host_prefills(load, 128, lambda: False) == []
    assert load.tokens == 500


@pytest.mark.parametrize(("on_host", "better"), [(1, False), (4, False), (6, True), (9, True)])
def test_two_batches_run_where_they_draw_more_per_time_of_the_device(on_host: int, better: bool) -> None:
    cost = FlatCost(linear_base_ms=1.0, linear_token_ms=1.0)
    decodes = [decode(5, Place.DEVICE)] * 5
    alone, pair = pair_of(cost, *decodes)[0], pair_of(cost, *decodes)
    for _ in range(on_host):
        pair[1].add_host_decode(decode(1))
    # Alone 5 tokens in 1 + 5 ms, together 5 + n in 2 + 5 + n.
    assert two_are_better(pair, alone) is better


def test_pieces_of_prompts_that_draw_nothing_do_not_count() -> None:
    cost = FlatCost(linear_token_ms=1.0)
    piece = Chunk(Sequence("p", [0] * 30, 30, 9, 0), 0, 10, Place.DEVICE, draws=False)
    alone, pair = pair_of(cost, piece)[0], pair_of(cost, piece)
    assert alone.drawn == 0
    pair[1].add_host_decode(decode(1))
    assert two_are_better(pair, alone)


def test_the_host_that_is_too_slow_to_hide_is_left_alone() -> None:
    cost = FlatCost(linear_base_ms=5.0, host_sequence_ms=50.0)
    decodes = [decode(5, Place.DEVICE)]
    batches = form(cost, NeoConfig(), [], decodes, [decode(n) for n in range(1, 9)], None, Budget(99, 99))
    assert [batch.device_decodes for batch in batches] == [tuple(decodes)]
    assert batches[0].host_decodes == ()


def test_two_batches_hold_everything_that_hides() -> None:
    cost = FlatCost(linear_base_ms=5.0, linear_token_ms=0.01, host_sequence_ms=1.0)
    host = [decode(n) for n in range(1, 6)]
    b0, b1 = form(cost, NeoConfig(), [prefill(20)], [decode(5, Place.DEVICE)], host, None, Budget(99, 99))
    assert len(b0.prefills) == len(b0.device_decodes) == 1
    assert sorted(lengths(b0.host_decodes) + lengths(b1.host_decodes)) == [1, 2, 3, 4, 5]
    assert not b1.prefills
    assert not b1.device_decodes


def test_an_overdue_decode_runs_whether_it_hides_or_not() -> None:
    cost = FlatCost(linear_base_ms=5.0, host_sequence_ms=50.0)
    late = decode(7)
    _, b1 = form(cost, NeoConfig(), [], [decode(5, Place.DEVICE)], [decode(3)], late, Budget(99, 99))
    assert b1.host_decodes == (late,)


def test_where_the_device_has_nothing_to_do_the_host_waits_for_nobody() -> None:
    cost = FlatCost(linear_base_ms=5.0, host_sequence_ms=50.0)
    (only,) = form(cost, NeoConfig(), [], [], [decode(n) for n in range(1, 6)], None, Budget(3, 99))
    assert lengths(only.host_decodes) == [1, 2, 3]
    assert form(cost, NeoConfig(), [], [], [], None, Budget(3, 99)) == ()
    late = decode(9)
    (only,) = form(cost, NeoConfig(), [], [], [decode(1), decode(2)], late, Budget(1, 99))
    assert lengths(only.host_decodes) == [9, 1]
