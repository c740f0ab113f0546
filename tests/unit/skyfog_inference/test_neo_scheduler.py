"""NEO's scheduler step by step: where sequences go, and what moves."""

from __future__ import annotations

import pytest

from skyfog_core.errors import InvalidRequest
from skyfog_core.units import MS
from skyfog_inference.blocks import BLOCK_SIZE
from skyfog_inference.cost.flat import FlatCost
from skyfog_inference.request import Place, Sequence
from skyfog_inference.scheduler.base import Step
from skyfog_inference.scheduler.neo import NeoScheduler
from skyfog_inference.scheduler.neo_rules import NeoConfig

FAST_HOST = FlatCost(linear_base_ms=10.0, linear_token_ms=0.01, host_sequence_ms=0.1)
SLOW_HOST = FlatCost(linear_base_ms=1.0, linear_token_ms=0.01, host_sequence_ms=100.0)


def sequence(name: str, tokens: int, most: int = 50, **more: int) -> Sequence:
    """A prompt that no other shares a block with."""
    return Sequence(name, [1000 * ord(name) + i for i in range(tokens)], tokens, most, 0, **more)


def play(scheduler: NeoScheduler, now_ms: float = 0.0, ended: tuple[str, ...] = ()) -> Step:
    """One step, in which every chunk that draws draws token 7."""
    step = scheduler.schedule(round(now_ms * MS))
    assert step is not None
    scheduler.on_step(step, {c.sequence.id: 7 for c in step.chunks if c.draws}, ended, 0, round(now_ms * MS))
    scheduler.check()
    return step


def ids(step: Step) -> list[str]:
    return [chunk.sequence.id for chunk in step.chunks]


def scheduler_of(cost: FlatCost, device: int, host: int, **config: int | float) -> NeoScheduler:
    return NeoScheduler(NeoConfig(**config), cost, device, host)  # type: ignore[arg-type]


def test_prompts_go_to_the_device_in_order_while_they_fit_then_to_the_host() -> None:
    scheduler = scheduler_of(FAST_HOST, 4, 100)
    sequences = [sequence(name, 30) for name in "abcd"]
    sequences.append(sequence("e", 10))  # would fit the device again, but an earlier one went to the host
    for one in [*sequences[:3], sequences[4]]:
        scheduler.add(one, 0)
    step = play(scheduler)
    assert ids(step) == ["a", "b", "c", "e"]
    assert [one.place for one in sequences[:3]] == [Place.DEVICE, Place.DEVICE, Place.HOST]
    assert sequences[4].place is Place.HOST
    assert sequences[0].tokens[-1] == 7


def test_the_host_keeps_room_for_all_that_the_device_may_swap_out() -> None:
    scheduler = scheduler_of(FAST_HOST, 4, 10)
    sequences = [sequence(name, 60) for name in "abcd"]
    for one in sequences:
        scheduler.add(one, 0)
    play(scheduler)
    # 4 of 10 blocks are kept; b takes 4 of the other 6 and c must wait, and d too.
    assert [one.place for one in sequences] == [Place.DEVICE, Place.HOST, Place.NOWHERE, Place.NOWHERE]


def test_out_of_blocks_the_last_of_the_device_goes_to_the_front_of_the_host() -> None:
    scheduler = scheduler_of(FAST_HOST, 4, 100)
    a, b, c = sequence("a", 32), sequence("b", 31), sequence("c", 31)
    for one in (a, b, c):
        scheduler.add(one, 0)
    play(scheduler)
    assert (a.place, b.place, c.place) == (Place.DEVICE, Place.DEVICE, Place.HOST)
    old = tuple(b.blocks)
    step = play(scheduler)  # a needs a third block
    (swap,) = step.swaps
    assert (swap.sequence, swap.source, swap.target, swap.source_blocks) == (b, Place.DEVICE, Place.HOST, old)
    assert swap.target_blocks == tuple(b.blocks[:2])
    assert b.preemptions == scheduler.state().preemptions == 1
    assert [c.sequence.id for c in step.batches[1].host_decodes] == ["b"]  # the first of its queue
    assert [c.sequence.id for c in step.batches[0].host_decodes] == ["c"]


def test_over_the_budget_of_sequences_too() -> None:
    scheduler = scheduler_of(SLOW_HOST, 100, 100, max_sequences=2)
    for name in "ab":
        scheduler.add(sequence(name, 10), 0)
    play(scheduler)
    scheduler._config = NeoConfig(max_sequences=1)
    assert [swap.sequence.id for swap in play(scheduler).swaps] == ["b"]


def test_the_first_of_the_host_comes_back_within_95_percent_and_not_beyond() -> None:
    scheduler = scheduler_of(SLOW_HOST, 20, 100, saturating_tokens=999)
    a, b, c = sequence("a", 17 * BLOCK_SIZE), sequence("b", 4 * BLOCK_SIZE - 3), sequence("c", 3)
    for one in (a, b, c):
        scheduler.add(one, 0)
    play(scheduler)
    assert (b.place, c.place) == (Place.HOST, Place.HOST)
    assert not play(scheduler).swaps
    step = play(scheduler, ended=("a",))
    assert not step.swaps
    step = play(scheduler)
    assert [swap.sequence for swap in step.swaps] == [b, c]
    assert b.place is c.place is Place.DEVICE
    assert sorted(ids(step)) == ["b", "c"]


def test_at_19_of_20_blocks_one_comes_back_and_at_20_not() -> None:
    for tokens, comes in ((BLOCK_SIZE - 2, True), (2 * BLOCK_SIZE - 2, False)):
        scheduler = scheduler_of(SLOW_HOST, 20, 100, saturating_tokens=999)
        a, big, b = sequence("a", 17 * BLOCK_SIZE), sequence("x", 3 * BLOCK_SIZE), sequence("b", tokens)
        for one in (a, big, b):
            scheduler.add(one, 0)
        play(scheduler)
        assert b.place is Place.HOST
        scheduler.abort("x", 0)
        assert bool(play(scheduler).swaps) is comes  # a has grown to 18


def test_never_both_ways_in_one_step() -> None:
    scheduler = scheduler_of(FAST_HOST, 4, 100)
    for name, tokens in (("a", 32), ("b", 31), ("c", 3)):
        scheduler.add(sequence(name, tokens), 0)
    play(scheduler)
    step = play(scheduler)
    assert {swap.target for swap in step.swaps} == {Place.HOST}


def test_a_host_that_is_useless_leaves_the_device_alone_and_still_everything_ends() -> None:
    scheduler = scheduler_of(SLOW_HOST, 4, 100)
    a, b = sequence("a", 40), sequence("b", 40)
    for one in (a, b):
        scheduler.add(one, 0)
    for _ in range(10):
        step = play(scheduler)
        assert len(step.batches) == 1
        assert not step.batches[0].host_decodes
    play(scheduler, ended=("a",))
    assert [swap.sequence.id for swap in play(scheduler).swaps] == ["b"]


def test_a_fast_host_decodes_beside_the_device() -> None:
    scheduler = scheduler_of(FAST_HOST, 4, 100)
    for name in "abc":
        scheduler.add(sequence(name, 40), 0)
    play(scheduler)
    step = play(scheduler)
    assert len(step.batches) == 2
    assert sorted(ids(step)) == ["a", "b", "c"]


def test_one_that_has_waited_too_long_on_the_host_runs_in_any_case() -> None:
    scheduler = scheduler_of(SLOW_HOST, 4, 100, patience_ms=50)
    for name in "ab":
        scheduler.add(sequence(name, 40), 0)
    play(scheduler)
    assert ids(play(scheduler, 49)) == ["a"]
    assert ids(play(scheduler, 50)) == ["a", "b"]
    assert ids(play(scheduler, 99)) == ["a"]


def test_one_that_the_device_cannot_hold_goes_on_after_a_pause_longer_than_patience() -> None:
    scheduler = scheduler_of(SLOW_HOST, 2, 100, patience_ms=50)
    scheduler.add(sequence("a", 100), 0)
    play(scheduler)
    assert ids(play(scheduler, 10_000)) == ["a"]


def test_one_that_the_device_cannot_hold_lives_on_the_host() -> None:
    scheduler = scheduler_of(SLOW_HOST, 2, 100)
    big = sequence("a", 100)
    scheduler.add(big, 0)
    assert play(scheduler).batches[0].prefills[0].place is Place.HOST
    (only,) = play(scheduler).batches
    assert [chunk.sequence for chunk in only.host_decodes] == [big]


def test_a_prompt_longer_than_a_step_is_computed_in_pieces_and_nobody_overtakes() -> None:
    scheduler = scheduler_of(FAST_HOST, 20, 0, max_batched_tokens=32)
    a, b = sequence("a", 80), sequence("b", 5)
    for one in (a, b):
        scheduler.add(one, 0)
    steps = [play(scheduler) for _ in range(3)]
    assert [[(c.sequence.id, c.start, c.count, c.draws) for c in step.chunks] for step in steps] == [
        [("a", 0, 32, False)],
        [("a", 32, 32, False)],
        [("a", 64, 16, True), ("b", 0, 5, True)],
    ]


def test_a_prompt_that_fits_a_step_is_never_cut() -> None:
    scheduler = scheduler_of(FAST_HOST, 20, 0, max_batched_tokens=32)
    for one in (sequence("a", 20), sequence("b", 20)):
        scheduler.add(one, 0)
    assert ids(play(scheduler)) == ["a"]
    assert ids(play(scheduler)) == ["b", "a"]


def test_a_shared_beginning_is_not_computed_again() -> None:
    scheduler = scheduler_of(FAST_HOST, 20, 0)
    a, b = sequence("a", 40), sequence("b", 40)
    b.tokens = a.tokens[:33] + [1] * 7
    for one in (a, b):
        scheduler.add(one, 0)
        play(scheduler)
    assert b.shared == scheduler.state().shared_tokens == 32
    assert b.blocks[:2] == a.blocks[:2]


def test_without_a_host_the_last_is_computed_anew() -> None:
    scheduler = scheduler_of(FAST_HOST, 4, 0)
    a, b = sequence("a", 32), sequence("b", 31)
    for one in (a, b):
        scheduler.add(one, 0)
    play(scheduler)
    step = play(scheduler)
    assert (ids(step), step.swaps) == (["a"], ())
    assert (b.place, b.computed, b.preemptions) == (Place.NOWHERE, 0, 1)
    play(scheduler, ended=("a",))
    step = play(scheduler)
    assert [(c.sequence.id, c.start + c.count) for c in step.chunks] == [("b", 32)]


def test_one_computed_anew_waits_behind_a_prompt_that_is_begun() -> None:
    scheduler = scheduler_of(FAST_HOST, 10, 0, max_batched_tokens=20)
    a, long = sequence("a", 47), sequence("p", 100)
    scheduler.add(a, 0)
    while not a.output_len:
        play(scheduler)
    scheduler.add(long, 0)
    while a.place is Place.DEVICE:
        play(scheduler)
    assert 0 < long.computed < 100  # it holds what a is short of
    while not long.output_len:
        play(scheduler)
    play(scheduler, ended=("p",))
    assert ids(play(scheduler)) == ["a"]


def test_two_on_the_host_that_outgrow_it_both_end() -> None:
    scheduler = scheduler_of(FAST_HOST, 1, 8)
    a, b = sequence("a", 48), sequence("b", 32)
    for one in (a, b):
        scheduler.add(one, 0)
    left = {"a", "b"}
    while left:
        step = scheduler.schedule(0)
        assert step is not None
        drawn = {c.sequence.id: 7 for c in step.chunks if c.draws}
        ended = {c.sequence.id for c in step.chunks if c.draws and c.sequence.output_len == 49}
        scheduler.on_step(step, drawn, ended, 0, 0)
        scheduler.check()
        left -= ended
    assert scheduler.state().preemptions > 0


def test_a_prompt_that_is_dropped_from_a_step_holds_nothing() -> None:
    scheduler = scheduler_of(SLOW_HOST, 4, 100, saturating_tokens=32)
    a, b = sequence("a", 40), sequence("b", 40)
    for one in (a, b):
        scheduler.add(one, 0)
    assert ids(play(scheduler)) == ["a"]
    assert (b.place, b.blocks, scheduler.state().host_blocks_used) == (Place.NOWHERE, [], 0)


def test_priority_goes_first_among_those_that_wait() -> None:
    scheduler = scheduler_of(FAST_HOST, 100, 0)
    for name, priority in (("a", 0), ("b", 1), ("c", 1)):
        scheduler.add(sequence(name, 4, priority=priority), 0)
    assert ids(play(scheduler)) == ["b", "c", "a"]


def test_what_can_never_fit_is_refused_and_what_outgrows_is_cut() -> None:
    scheduler = scheduler_of(FAST_HOST, 2, 3)
    with pytest.raises(InvalidRequest, match="49 tokens, and the larger cache holds 48"):
        scheduler.add(sequence("a", 49), 0)
    whole = sequence("b", 48, most=9)
    scheduler.add(whole, 0)
    assert whole.max_tokens == 1
    with pytest.raises(InvalidRequest, match="under way"):
        scheduler.add(sequence("b", 1), 0)


def test_abort_frees_what_is_held_wherever_it_is() -> None:
    scheduler = scheduler_of(FAST_HOST, 4, 100)
    for name in "abc":
        scheduler.add(sequence(name, 40), 0)
    play(scheduler)
    scheduler.add(sequence("d", 10), 0)
    for name in "abcd":
        assert scheduler.abort(name, 0)
        assert not scheduler.abort(name, 0)
        scheduler.check()
    state = scheduler.state()
    assert (state.device_blocks_used, state.host_blocks_used, scheduler.has_work()) == (0, 0, False)
    assert scheduler.schedule(0) is None
