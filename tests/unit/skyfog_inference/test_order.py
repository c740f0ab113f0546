from __future__ import annotations

from collections.abc import Callable

import pytest

from skyfog_inference.placement.order import (
    ORDERS,
    Key,
    Kind,
    Order,
    Resource,
    cgopipe,
    fastdecode,
    flexgen,
    flexgen_cpu,
    without_host,
)
from skyfog_inference.placement.timeline import Costs, simulate

UNIT = Costs(
    pre_attention=1,
    cpu_attention=2,
    gpu_attention=1,
    post_attention=3,
    offload_qkv=0.5,
    load_hidden=0.5,
    load_kv=6,
    layer_weights=12,
)


def names(order: Order, layer: int) -> list[str]:
    """Tasks between the first load of a layer's hidden state and the next layer's."""
    keys = [task.key for task in order.tasks]
    starts = [keys.index(Key(Kind.LOAD_HIDDEN, at, 0)) for at in (layer, layer + 1)]
    return [f"{key.kind.value}({key.layer},{key.part})" for key in keys[starts[0] : starts[1]]]


def test_cgopipe_is_algorithm_1() -> None:
    assert names(cgopipe(4, 3), 1) == [
        *("D2(1,0)", "D3(2,0)", "C(1,0)", "A(1,2)", "D1(1,2)", "B(1,2)", "P(2,2)"),
        *("D2(1,1)", "D3(2,1)", "C(1,1)", "A(2,0)", "D1(2,0)", "B(2,0)", "P(3,0)"),
        *("D2(1,2)", "D3(2,2)", "C(1,2)", "A(2,1)", "D1(2,1)", "B(2,1)", "P(3,1)"),
    ]


def test_cgopipe_begins_with_a_prologue_of_two_micro_batches() -> None:
    first = [task.key for task in cgopipe(4, 3).tasks][:8]
    kinds = [Kind.PRE_ATTENTION, Kind.OFFLOAD_QKV, Kind.CPU_ATTENTION]
    assert first == [
        *(*(Key(kind, 0, 0) for kind in kinds), Key(Kind.PIN_WEIGHTS, 1, 0)),
        *(*(Key(kind, 0, 1) for kind in kinds), Key(Kind.PIN_WEIGHTS, 1, 1)),
    ]


def test_only_cgopipe_has_pages() -> None:
    assert [order(4, 3).pages for order in ORDERS.values()] == [3, 1, 1, 1]


def test_unpaged_weights_stand_behind_the_last_hidden_state_of_a_layer() -> None:
    for order in (fastdecode(3, 3), flexgen_cpu(3, 3)):
        link = [task.key for task in order.tasks if task.resource is Resource.H2D]
        assert link.index(Key(Kind.LOAD_WEIGHTS, 1, 0)) == link.index(Key(Kind.LOAD_HIDDEN, 0, 2)) + 1


def test_flexgen_fetches_keys_and_values_one_micro_batch_ahead() -> None:
    keys = [task.key for task in flexgen(3, 3).tasks]
    assert keys.index(Key(Kind.LOAD_KV, 1, 2)) < keys.index(Key(Kind.PRE_ATTENTION, 1, 1))
    assert not [key for key in keys if key.kind is Kind.CPU_ATTENTION]


def test_the_timeline_by_hand() -> None:
    spans = simulate(flexgen_cpu(1, 2), UNIT).spans
    assert spans[Key(Kind.PRE_ATTENTION, 0, 0)] == (0, 1)
    assert spans[Key(Kind.OFFLOAD_QKV, 0, 0)] == (1, 1.5)
    assert spans[Key(Kind.CPU_ATTENTION, 0, 0)] == (1.5, 3.5)
    assert spans[Key(Kind.LOAD_HIDDEN, 0, 0)] == (3.5, 4)
    assert spans[Key(Kind.POST_ATTENTION, 0, 0)] == (4, 7)
    assert spans[Key(Kind.LOAD_WEIGHTS, 1, 0)] == (11, 23)


def test_bubbles_shrink_in_the_papers_order() -> None:
    lines = [simulate(ORDERS[name](16, 8), UNIT) for name in ("S1", "S2", "S3")]
    spans = [line.makespan for line in lines]
    assert spans == sorted(spans)
    idle = [line.idle_share(Resource.GPU) for line in lines]
    assert idle == sorted(idle)
    assert idle[0] < 0.05  # bound by the GPU, and hardly ever waiting
    assert simulate(flexgen(16, 8), UNIT).idle_share(Resource.H2D) < 0.05  # bound by the link


@pytest.mark.parametrize("make", ORDERS.values())
def test_without_a_host_only_computing_and_weights_are_left(make: Callable[[int, int], Order]) -> None:
    order = without_host(make(3, 2))
    kinds = {task.key.kind for task in order.tasks}
    assert kinds == {Kind.PRE_ATTENTION, Kind.GPU_ATTENTION, Kind.POST_ATTENTION, Kind.LOAD_WEIGHTS}
    known: set[Key] = set()
    for task in order.tasks:
        assert known.issuperset(task.needs)
        known.add(task.key)


def test_without_a_host_weights_are_read_while_the_layer_before_computes() -> None:
    order = without_host(cgopipe(8, 4))
    costs = Costs(1, 1, 1, 1, 0, 0, 0, layer_weights=20)
    line = simulate(order, costs)
    assert line.idle_share(Resource.H2D) < 0.05
    assert line.makespan < simulate(without_host(flexgen_cpu(8, 4)), costs).makespan


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="S1: needs a layer and a micro-batch, not 0 and 3"):
        cgopipe(0, 3)
