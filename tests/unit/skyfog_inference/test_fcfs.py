import pytest

from skyfog_core.errors import InvalidRequest
from skyfog_inference.request import Place, Sequence
from skyfog_inference.scheduler.base import Step
from skyfog_inference.scheduler.fcfs import FcfsScheduler
from support.fake_runner import FakeRunner, expected


def sequence(name: str, prompt: int = 4, new: int = 100, priority: int = 0, first: int | None = None) -> Sequence:
    """One whose prompt nobody shares."""
    tokens = [first if first is not None else ord(name[0])] * prompt
    return Sequence(name, tokens, prompt, new, 0, priority)


class Run:
    """A scheduler and a runner that reads its blocks; who has all tokens ends."""

    def __init__(self, blocks: int, host_blocks: int = 0, **limits: int) -> None:
        self.scheduler = FcfsScheduler(blocks, host_blocks, **limits)  # type: ignore[arg-type]
        self.runner = FakeRunner(blocks, host_blocks)

    def add(self, *sequences: Sequence) -> None:
        for one in sequences:
            self.scheduler.add(one, 0)

    def step(self) -> Step:
        step = self.scheduler.schedule(0)
        assert step is not None
        output = self.runner.execute(step)
        drawn = dict(zip(output.sequences, output.logits.argmax(-1).tolist(), strict=True))
        drawing = [chunk.sequence for chunk in step.chunks if chunk.draws]
        ended = {one.id for one in drawing if one.output_len + 1 >= one.max_tokens}
        self.scheduler.on_step(step, drawn, ended, 0, 0)
        self.scheduler.check()
        return step


def plan(step: Step) -> list[tuple[str, int, int]]:
    return [(chunk.sequence.id, chunk.start, chunk.count) for chunk in step.chunks]


def test_nothing_to_do_is_no_step() -> None:
    scheduler = FcfsScheduler(4)
    assert scheduler.schedule(0) is None
    assert not scheduler.has_work()


def test_a_prompt_and_then_token_by_token() -> None:
    run = Run(4)
    run.add(sequence("a", prompt=5, new=3))
    assert [plan(run.step()) for _ in range(3)] == [[("a", 0, 5)], [("a", 5, 1)], [("a", 6, 1)]]
    assert not run.scheduler.has_work()


def test_decodes_go_before_prompts_which_take_what_is_left() -> None:
    run = Run(40, max_batched_tokens=10)
    run.add(sequence("a", prompt=4))
    run.step()
    run.add(sequence("b", prompt=25), sequence("c", prompt=3))
    steps = [run.step() for _ in range(4)]
    assert [plan(step) for step in steps[:3]] == [
        [("b", 0, 9), ("a", 4, 1)],
        [("b", 9, 9), ("a", 5, 1)],
        [("b", 18, 7), ("c", 0, 2), ("a", 6, 1)],
    ]
    # A single last token of a prompt is as a decode, and runs with them.
    assert sorted(plan(steps[3])) == [("a", 7, 1), ("b", 25, 1), ("c", 2, 1)]
    assert [chunk.draws for chunk in steps[1].chunks] == [False, True]


def test_no_more_sequences_than_allowed() -> None:
    run = Run(40, max_sequences=2)
    run.add(sequence("a", new=1), sequence("b"), sequence("c"))
    assert [name for name, _, _ in plan(run.step())] == ["a", "b"]
    assert sorted(name for name, _, _ in plan(run.step())) == ["b", "c"]


def test_higher_priority_goes_first_and_equal_ones_in_order() -> None:
    run = Run(40, max_sequences=1)
    run.add(sequence("a", new=1), sequence("b", new=1), sequence("c", new=1, priority=1))
    assert [plan(run.step())[0][0] for _ in range(3)] == ["c", "a", "b"]


def test_the_first_that_does_not_fit_keeps_the_rest_out() -> None:
    run = Run(4)
    run.add(sequence("a", prompt=40), sequence("b", prompt=30), sequence("c", prompt=1))
    assert [name for name, _, _ in plan(run.step())] == ["a"]


def test_who_can_never_fit_is_refused_with_figures() -> None:
    run = Run(2)
    with pytest.raises(InvalidRequest, match="33 tokens, and the device's cache holds 32"):
        run.add(sequence("a", prompt=33))
    assert not run.scheduler.has_work()
    one = sequence("b", prompt=32, new=50)
    run.add(one)
    assert one.max_tokens == 1
    run.step()
    assert not run.scheduler.has_work()


def test_an_id_is_taken_once() -> None:
    run = Run(4)
    run.add(sequence("a"))
    with pytest.raises(InvalidRequest, match="'a' is under way"):
        run.add(sequence("a"))


def test_who_outgrows_the_device_ends_when_it_is_full() -> None:
    run = Run(2)
    one = sequence("a", prompt=10, new=1_000)
    run.add(one)
    while run.scheduler.has_work():
        run.step()
    assert len(one.tokens) == 33  # the last one drawn is not computed


def test_out_of_blocks_the_last_gives_way_and_begins_anew() -> None:
    run = Run(4)
    first, last = sequence("a", prompt=31, new=10), sequence("b", prompt=31, new=10)
    run.add(first, last)
    run.step()
    assert [run.step().swaps for _ in range(2)] == [(), ()]
    assert (last.place, last.computed, last.preemptions) == (Place.NOWHERE, 0, 1)
    assert first.place is Place.DEVICE
    while first.output_len < 10:
        assert [name for name, _, _ in plan(run.step())] == ["a"]
    step = run.step()
    assert plan(step)[0][0] == "b"
    assert len(last.tokens) == 31 + 3  # its tokens were kept, and their keys are computed again, or found
    assert last.shared == 0  # what it finds are its own


def test_out_of_blocks_the_last_goes_to_the_host_where_that_has_room() -> None:
    run = Run(4, host_blocks=2)
    first, last = sequence("a", prompt=31, new=4), sequence("b", prompt=31, new=10)
    run.add(first, last)
    run.step()
    run.step()
    (swap,) = run.step().swaps
    assert (swap.sequence, swap.source, swap.target) == (last, Place.DEVICE, Place.HOST)
    assert (last.place, last.computed, len(last.blocks)) == (Place.HOST, 32, 2)
    assert run.scheduler.state().host_blocks_used == 2
    run.add(sequence("c"))
    assert [name for name, _, _ in plan(run.step())] == ["a"], "nobody passes who waits on the host"
    back = run.step()
    assert [(swap.source, swap.target) for swap in back.swaps] == [(Place.HOST, Place.DEVICE)]
    assert ("b", 32, 1) in plan(back)
    assert ("c", 0, 4) in plan(back)
    while last.output_len < 10:
        run.step()
    for one in (first, last):
        assert one.tokens[31:] == expected(one.tokens[:31], one.output_len)


def test_a_common_beginning_is_computed_once() -> None:
    run = Run(40)
    run.add(sequence("a", prompt=40, first=5, new=1))
    run.step()
    second = sequence("b", prompt=40, first=5)
    run.add(second)
    assert plan(run.step()) == [("b", 32, 8)]
    assert second.shared == 32
    assert run.scheduler.state().shared_tokens == 32


def test_who_begins_alike_and_comes_together_computes_it_once() -> None:
    run = Run(40, max_batched_tokens=30)
    run.add(*(sequence(name, prompt=50, first=5) for name in "abc"), sequence("d", prompt=4))
    assert [plan(run.step()) for _ in range(2)] == [[("a", 0, 30)], [("a", 30, 20)]]
    third = plan(run.step())
    assert third == [("b", 48, 2), ("c", 48, 2), ("d", 0, 4), ("a", 50, 1)]


def test_for_little_in_common_nobody_waits() -> None:
    run = Run(40)
    one, other = sequence("a", prompt=50, first=5), sequence("b", prompt=50, first=5)
    other.tokens[16:] = [6] * 34
    run.add(one, other)
    assert plan(run.step()) == [("a", 0, 50), ("b", 0, 50)]


def test_nobody_waits_for_what_is_not_shared() -> None:
    run = Run(40, prefix_sharing=False)
    run.add(sequence("a", prompt=50, first=5), sequence("b", prompt=50, first=5))
    assert plan(run.step()) == [("a", 0, 50), ("b", 0, 50)]


def test_what_a_failed_sequence_computed_is_not_shared() -> None:
    run = Run(40)
    run.add(sequence("a", prompt=40, first=5))
    step = run.scheduler.schedule(0)
    assert step is not None
    run.scheduler.on_step(step, {}, {"a"}, 0, 0)
    run.scheduler.check()
    run.add(sequence("b", prompt=40, first=5))
    assert plan(run.step()) == [("b", 0, 40)]


@pytest.mark.parametrize("where", ["waiting", "running", "on the host"])
def test_abort_gives_back_what_is_held(where: str) -> None:
    run = Run(4, host_blocks=4, max_sequences=2)
    run.add(sequence("a", prompt=31), sequence("b", prompt=31), sequence("c"))
    for _ in range(3):
        run.step()
    name = {"waiting": "c", "running": "a", "on the host": "b"}[where]
    assert run.scheduler.abort(name, 0)
    assert not run.scheduler.abort(name, 0)
    run.scheduler.check()
    while run.scheduler.has_work():
        run.step()
    state = run.scheduler.state()
    assert (state.device_blocks_used, state.host_blocks_used) == (0, 0)


def test_after_a_failed_step_its_sequences_are_aborted() -> None:
    run = Run(4, host_blocks=4)
    run.add(sequence("a", prompt=31), sequence("b", prompt=31))
    run.step()
    run.step()
    step = run.scheduler.schedule(0)
    assert step is not None
    assert step.swaps
    for name in ("a", "b"):
        assert run.scheduler.abort(name, 0)
    run.scheduler.check()
    assert run.scheduler.schedule(0) is None
