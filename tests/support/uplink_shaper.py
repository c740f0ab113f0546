"""A shaper by itself, and what it does in short words."""

from __future__ import annotations

from skyfog_core.config.uplink import ShaperConfig
from skyfog_core.errors import Status
from skyfog_core.units import S
from skyfog_core.wire.uplink import Ack, Answer
from skyfog_uplink.policy.frames import Action, Ended, Outcome, SendChunk
from skyfog_uplink.policy.link import LinkState
from skyfog_uplink.policy.model import Table
from skyfog_uplink.policy.plan import Plan
from skyfog_uplink.policy.shape import Shaper
from support.uplink import FixedEstimator, grant, link, plan, table

WIDE = ShaperConfig(window_rtts=20.0, chunk_bytes=4_000)  # nothing is held back by the window


def shaper(
    known: LinkState | None = None,
    config: ShaperConfig = WIDE,
    of: Table | None = None,
    planned: Plan | None = None,
) -> tuple[Shaper, FixedEstimator]:
    """Connected, and with a plan for so long that the buckets are full."""
    estimator = FixedEstimator(known or link(8e6, 40))
    made = Shaper(of or table(), config, estimator)
    assert made.on_connected(-S // 2) == []
    assert made.on_plan(planned or plan(grant()), -S // 2) == []
    return made, estimator


def chunks(actions: list[Action]) -> list[SendChunk]:
    return [action for action in actions if isinstance(action, SendChunk)]


def ended(actions: list[Action]) -> list[tuple[int, Outcome]]:
    return [(action.frame.id, action.outcome) for action in actions if isinstance(action, Ended)]


def acks(of: Shaper, actions: list[Action], now_ns: int) -> list[Action]:
    """All that was sent is acknowledged; what follows from that."""
    out: list[Action] = []
    for chunk in chunks(actions):
        out += of.on_ack(Ack(seq=chunk.seq, received_us=0), now_ns)
    return out


def answer(number: int, status: Status = Status.OK) -> Answer:
    return Answer(frame=number, status=status, cloud_us=20_000)
