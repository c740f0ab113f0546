"""Whatever comes in whatever order: each request goes into one batch, or is refused, and never both."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from skyfog_core.errors import Overloaded
from skyfog_perception.batch import Item, Waiting

# An addition with a deadline (or none); a number: that one of those that wait is withdrawn, and looks; or None: the
# model is free and takes a batch.
EVENTS = st.lists(
    st.one_of(st.none(), st.integers(0, 5), st.tuples(st.one_of(st.none(), st.integers(0, 60)))), max_size=60
)


@given(events=EVENTS, max_batch=st.integers(1, 6), max_queue=st.integers(1, 6))
def test_each_request_is_run_once_or_refused_once_in_order(
    events: list[tuple[int | None] | int | None], max_batch: int, max_queue: int
) -> None:
    queue = Waiting(max_batch, max_queue)
    added: list[Item] = []
    run: list[Item] = []
    for now_ns, event in enumerate(events):
        if isinstance(event, int):
            if event < len(queue.items):
                left = queue.items[event]
                left.cancellation.cancel()
                queue.leave(left, now_ns)
                assert left.error is not None
                assert left not in queue.items
            continue
        if event is not None:
            item = Item(np.zeros((1, 1)), event[0])
            try:
                queue.add(item)
                added.append(item)
            except Overloaded:
                assert len(queue.items) == max_queue
            continue
        waiting = len(queue.items)
        batch = queue.take(now_ns)
        assert len(batch) <= max_batch
        assert all(item.deadline_ns is None or item.deadline_ns > now_ns for item in batch)
        refused = waiting - len(queue.items) - len(batch)
        assert len(batch) == max_batch or not queue.items
        assert refused >= 0
        run += batch
    while queue.items:
        run += queue.take(0)
    assert [item for item in added if item.error is None] == run
    assert len({id(item) for item in run}) == len(run)
