"""What holds for every task order, every timeline and every split into micro-batches."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import hypothesis.strategies as st
from hypothesis import given, settings

from skyfog_inference.placement.batching import batch
from skyfog_inference.placement.order import LOOK_AHEAD, ORDERS, Key, Kind, Order, Resource, without_host
from skyfog_inference.placement.timeline import Costs, Timeline, simulate

EXAMPLES = settings(max_examples=150)
shares = st.floats(0, 1, allow_subnormal=False)


@st.composite
def orders(draw: st.DrawFn) -> Order:
    order = ORDERS[draw(st.sampled_from(sorted(ORDERS)))](draw(st.integers(1, 6)), draw(st.integers(1, 7)))
    return without_host(order) if draw(st.booleans()) else order


@st.composite
def costs(draw: st.DrawFn) -> Costs:
    scale = {name: draw(shares) for name in ("pre", "cpu", "gpu", "post", "qkv", "hidden", "kv", "weights", "pin")}
    return Costs(
        scale["pre"],
        3 * scale["cpu"],
        scale["gpu"],
        3 * scale["post"],
        scale["qkv"],
        scale["hidden"],
        5 * scale["kv"],
        20 * scale["weights"],
        10 * scale["pin"],
    )


@EXAMPLES
@given(orders())
def test_the_list_is_an_order_for_one_thread(order: Order) -> None:
    done: set[Key] = set()
    for task in order.tasks:
        assert done.issuperset(task.needs)
        assert task.key not in done
        done.add(task.key)


@EXAMPLES
@given(orders())
def test_every_micro_batch_of_every_layer_is_computed_once(order: Order) -> None:
    everything = {(layer, part) for layer in range(order.layers) for part in range(order.micro_batches)}
    attention = {Kind.CPU_ATTENTION, Kind.GPU_ATTENTION}
    for kinds in ({Kind.PRE_ATTENTION}, attention, {Kind.POST_ATTENTION}):
        done = Counter((task.key.layer, task.key.part) for task in order.tasks if task.key.kind in kinds)
        assert done == Counter(everything)
    pages = {(layer, page) for layer in range(1, order.layers + 1) for page in range(order.pages)}
    loaded = Counter((task.key.layer, task.key.part) for task in order.tasks if task.key.kind is Kind.LOAD_WEIGHTS)
    assert loaded == Counter(pages)


@EXAMPLES
@given(orders(), costs())
def test_what_depends_on_each_other_and_shares_a_resource_never_overlaps(order: Order, prices: Costs) -> None:
    line = simulate(order, prices)
    for task in order.tasks:
        assert all(line.spans[need][1] <= line.spans[task.key][0] for need in task.needs)
    for resource in Resource:
        spans = sorted(line.spans[task.key] for task in order.tasks if task.resource is resource)
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
        assert -1e-9 <= line.idle_share(resource) <= 1


def _use(line: Timeline, layer: int) -> tuple[float, float]:
    """From the first to the last moment in which a layer's experts are read."""
    spans = [line.spans[Key(Kind.POST_ATTENTION, layer, part)] for part in range(line.order.micro_batches)]
    return min(start for start, _ in spans), max(end for _, end in spans)


@EXAMPLES
@given(orders(), costs())
def test_a_buffer_is_whole_before_it_is_read_and_not_overwritten_while_it_is(order: Order, prices: Costs) -> None:
    line = simulate(order, prices)
    for layer in range(1, order.layers + 1):
        pages = [line.spans[Key(Kind.LOAD_WEIGHTS, layer, page)] for page in range(order.pages)]
        if layer < order.layers:
            assert max(end for _, end in pages) <= _use(line, layer)[0]
        if layer >= 2:  # the same half of the buffer
            assert min(start for start, _ in pages) >= _use(line, layer - 2)[1]


@EXAMPLES
@given(st.integers(1, 6), st.integers(1, 8), costs())
def test_cgopipe_is_never_behind_where_its_assumptions_hold(layers: int, parts: int, prices: Costs) -> None:
    # Sections 3.3, 4.1 and 6.2: attention on the CPU is 3 to 4 times as fast as moving keys and values, beside which
    # what goes back and forth is small, and pinning is no slower than the link.
    fair = replace(
        prices,
        cpu_attention=prices.load_kv / 3,
        offload_qkv=prices.load_kv * prices.offload_qkv / 10,
        load_hidden=prices.load_kv * prices.load_hidden / 10,
        pin_layer=min(prices.pin_layer, prices.layer_weights),
    )
    spans = {name: simulate(make(layers, parts), fair).makespan for name, make in ORDERS.items()}
    assert spans["S1"] <= spans["S3"] + 1e-9
    assert spans["S1"] <= spans["S2"] + fair.load_hidden + 1e-9  # one may stand behind the last page
    if parts > LOOK_AHEAD:
        start = 2 * fair.pre_attention + fair.offload_qkv + fair.cpu_attention + fair.load_hidden
        assert spans["S1"] <= spans["S4"] + start + 1e-9  # until the pipeline is full


@EXAMPLES
@given(
    st.lists(st.integers(1, 200), max_size=60),
    st.integers(1, 6),
    st.integers(1, 12),
    st.integers(0, 50),
    st.integers(0, 1_000),
)
def test_every_request_is_in_one_micro_batch_or_aborted(
    lengths: list[int], count: int, size: int, new_tokens: int, cache: int
) -> None:
    batches = batch(lengths, count, size, new_tokens, cache)
    placed = [index for one in batches.micro_batches for index in one]
    assert sorted([*placed, *batches.aborted]) == list(range(len(lengths)))
    assert len(batches.micro_batches) <= count
    for one in batches.micro_batches:
        assert 1 <= len(one) <= size
        assert sum(lengths[index] for index in one) + len(one) * new_tokens <= cache


@EXAMPLES
@given(st.lists(st.integers(1, 200), min_size=1, max_size=60), st.integers(1, 6))
def test_tokens_are_spread_evenly(lengths: list[int], count: int) -> None:
    batches = batch(lengths, count, size=len(lengths), new_tokens=0, cache_tokens=10**9)
    sums = [sum(lengths[index] for index in one) for one in batches.micro_batches]
    sums += [0] * (count - len(sums))
    assert max(sums) - min(sums) <= max(lengths) or len(lengths) == 1
