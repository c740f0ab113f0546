"""How sure a frame must be to begin, after what became of those before it."""

from __future__ import annotations

import pytest

from skyfog_core.config.uplink import ShaperConfig
from skyfog_core.errors import Status
from skyfog_core.units import MS, S
from skyfog_uplink.policy.doubt import PATIENCE_NS
from skyfog_uplink.policy.frames import Outcome
from skyfog_uplink.policy.link import LinkState
from skyfog_uplink.policy.shape import GRACE_NS, Shaper
from support.uplink import frame
from support.uplink_shaper import acks, answer, chunks, ended, shaper


def test_after_misses_a_frame_must_be_surer_to_begin() -> None:
    rates = (1e5,) * 3 + (8e6,) * 7  # one in ten is hopeless
    it, _ = shaper(LinkState(0, True, rates, (40.0,) * 4, 40.0, 40.0), ShaperConfig(certainty=0.85, window_rtts=20.0))
    assert chunks(it.on_frame(frame(1), 0))
    for number in range(1, 4):
        it.on_answer(answer(number), number * S)  # late
        found = it.on_frame(frame(number + 1, at_ns=number * S), number * S)
    assert ended(found) == [(4, Outcome.WITHHELD)]


UNSURE = LinkState(0, True, (1e5,) * 2 + (8e6,) * 8, (40.0,) * 4, 40.0, 40.0)  # one in twenty is hopeless


def play(it: Shaper, first: int, count: int, acked_ms: int, answered_ms: int | None) -> list[Outcome]:
    """A frame each tenth of a second, the last of them to its end. What became of them."""
    found: list[Outcome] = []
    for number in range(first, first + count):
        now_ns = number * S // 10
        out = it.on_frame(frame(number, at_ns=now_ns, slo_ms=90), now_ns)
        out += acks(it, out, now_ns + acked_ms * MS)
        if answered_ms is not None and chunks(out):
            out += it.on_answer(answer(number), now_ns + answered_ms * MS)
        found += [outcome for _, outcome in ended(out)]
    found += [outcome for _, outcome in ended(it.on_timer((first + count) * S // 10 + GRACE_NS))]
    it.check()
    return found


def test_a_cloud_that_does_not_answer_takes_no_certainty() -> None:
    """What was acknowledged so early that the cloud's longest time would have done says nothing of the link."""
    it, _ = shaper(UNSURE)
    assert play(it, 0, 100, 50, None) == [Outcome.LOST] * 100
    assert play(it, 200, 20, 50, 80) == [Outcome.ON_TIME] * 20


@pytest.mark.parametrize("acked_ms", [50, 129, 131, None])
def test_a_miss_counts_unless_the_cloud_had_the_frame_early_enough(acked_ms: int | None) -> None:
    it, _ = shaper()  # the cloud takes 20 ms of the 150
    before = it._judge.doubt.allowed(0)
    sent = it.on_frame(frame(1), 0)
    if acked_ms is not None:
        acks(it, sent, acked_ms * MS)
    assert ended(it.on_timer(150 * MS + GRACE_NS)) == [(1, Outcome.LOST)]
    counted = it._judge.doubt.allowed(0) < before
    assert counted == (acked_ms is None or acked_ms > 130)


def test_a_part_that_was_not_acknowledged_makes_a_miss_count() -> None:
    it, _ = shaper()
    before = it._judge.doubt.allowed(0)
    acks(it, it.on_frame(frame(1), 0)[:-1], 50 * MS)
    it.on_answer(answer(1, Status.DEADLINE_EXCEEDED), 140 * MS)
    assert it._judge.doubt.allowed(0) < before


def test_a_shaper_that_withholds_everything_tries_again_after_seconds() -> None:
    it, _ = shaper(UNSURE)
    late = play(it, 0, 10, 80, 95)
    begun = late.index(Outcome.WITHHELD)
    assert late == [Outcome.LATE] * begun + [Outcome.WITHHELD] * (10 - begun)
    again = play(it, 10, 50, 50, 80)
    waited = again.count(Outcome.WITHHELD)
    assert PATIENCE_NS < (10 - begun + waited) * S // 10 < 4 * S
    assert again == [Outcome.WITHHELD] * waited + [Outcome.ON_TIME] * (50 - waited), "it goes on from there"
