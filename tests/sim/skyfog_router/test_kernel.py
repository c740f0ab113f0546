from __future__ import annotations

import pytest
from sim.kernel import Kernel


def test_calls_run_in_order_of_time_and_ties_in_order_of_scheduling() -> None:
    kernel, ran = Kernel(), []
    for when_ns, name in ((5, "late"), (1, "first"), (1, "second")):
        kernel.at(when_ns, lambda name=name: ran.append((kernel.now_ns, name)))
    kernel.run()
    assert ran == [(1, "first"), (1, "second"), (5, "late")]


def test_a_history_without_an_end_is_an_error() -> None:
    kernel = Kernel()

    def again() -> None:
        kernel.after(1, again)

    again()
    with pytest.raises(RuntimeError, match="not over after 10 calls"):
        kernel.run(limit=10)
