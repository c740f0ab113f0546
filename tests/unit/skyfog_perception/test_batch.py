"""Who waits, who goes together, who is too late: without threads."""

from __future__ import annotations

import numpy as np
import pytest

from skyfog_core import budget
from skyfog_core.clock import ManualClock
from skyfog_core.errors import NotExecuted, Overloaded
from skyfog_perception.batch import Batcher, Item, Outputs, Tensor, Waiting, run_batch


def item(value: float = 0.0, deadline_ns: int | None = None) -> Item:
    return Item(np.full((1, 2), value, np.float32), deadline_ns)


def waiting(items: list[Item], max_batch: int = 8, max_queue: int = 8) -> Waiting:
    made = Waiting(max_batch, max_queue)
    for one in items:
        made.add(one)
    return made


def doubled_and_sum(tensor: Tensor) -> Outputs:
    return [tensor * 2, tensor.sum(axis=1)]


def test_all_that_wait_go_together_oldest_first() -> None:
    items = [item(), item(), item()]
    assert waiting(items).take(0) == items


def test_a_batch_has_its_limit_and_the_rest_is_next() -> None:
    items = [item() for _ in range(5)]
    queue = waiting(items, max_batch=3)
    assert queue.take(0) == items[:3]
    assert queue.take(0) == items[3:]
    assert queue.take(0) == []


def test_more_than_the_queue_holds_is_refused_as_not_executed() -> None:
    queue = waiting([item(), item()], max_queue=2)
    with pytest.raises(Overloaded, match="2 requests wait"):
        queue.add(item())
    assert issubclass(Overloaded, NotExecuted)


def test_what_is_too_late_is_refused_and_takes_nobodys_place() -> None:
    late, now, later, never = item(deadline_ns=4), item(deadline_ns=5), item(deadline_ns=6), item()
    assert waiting([late, now, later, never], max_batch=2).take(5) == [later, never]
    for one in (late, now):
        assert isinstance(one.error, NotExecuted)
    assert not later.is_done


def test_each_gets_its_part_of_a_batch() -> None:
    items = [item(1.0), item(2.0), item(3.0)]
    run_batch(items, doubled_and_sum)
    for value, one in zip((1.0, 2.0, 3.0), items, strict=True):
        assert one.outputs is not None
        assert one.outputs[0].tolist() == [[2 * value, 2 * value]]
        assert one.outputs[1].tolist() == [2 * value]


def test_a_fault_is_everyones() -> None:
    def broken(_tensor: Tensor) -> Outputs:
        raise RuntimeError("no memory")

    items = [item(), item()]
    run_batch(items, broken)
    assert [str(one.error) for one in items] == ["no memory", "no memory"]


def test_outputs_that_are_not_one_an_image_are_a_fault_not_a_mix_up() -> None:
    items = [item(), item()]
    run_batch(items, lambda tensor: [tensor[:1]])
    assert all("a batch of 2 gave an output of shape [1, 2]" in str(one.error) for one in items)


def test_a_lone_request_runs_at_once_as_it_is() -> None:
    seen: list[Tensor] = []

    def run(tensor: Tensor) -> Outputs:
        seen.append(tensor)
        return doubled_and_sum(tensor)

    tensor = np.ones((1, 2), np.float32)
    assert Batcher(run, ManualClock(), 4, 4).submit(Item(tensor))[0].tolist() == [[2.0, 2.0]]
    assert len(seen) == 1
    assert seen[0] is tensor


def test_a_request_that_comes_too_late_never_runs() -> None:
    def never(_tensor: Tensor) -> Outputs:
        raise AssertionError("ran")

    with pytest.raises(NotExecuted, match="time ran out"):
        Batcher(never, ManualClock(10), 4, 4).submit(item(1.0, 10))


def test_what_is_withdrawn_leaves_its_place_and_does_not_run() -> None:
    first, second, third = items = [item(), item(), item()]
    queue = waiting(items)
    second.cancellation.cancel()
    queue.leave(second, 0)
    queue.leave(third, 0)
    assert list(queue.items) == [first, third]
    third.cancellation.cancel()
    assert queue.take(0) == [first]
    for one in (second, third):
        assert isinstance(one.error, NotExecuted)
        assert "withdrawn" in str(one.error)


def test_after_a_fault_the_next_request_is_served() -> None:
    answers = [RuntimeError("once"), None]

    def run(tensor: Tensor) -> Outputs:
        error = answers.pop(0)
        if error is not None:
            raise error
        return [tensor]

    batcher = Batcher(run, ManualClock(), 4, 4)
    tensor = np.ones((1, 2), np.float32)
    with pytest.raises(RuntimeError, match="once"):
        batcher.submit(Item(tensor))
    assert batcher.submit(Item(tensor))[0].tolist() == [[1.0, 1.0]]


def test_a_budget_holds_inside_its_block_only() -> None:
    assert budget.deadline_ns() is None
    with budget.until(7):
        with budget.until(3):
            assert budget.deadline_ns() == 3
        assert budget.deadline_ns() == 7
    assert budget.deadline_ns() is None
