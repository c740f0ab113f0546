"""One request: broadcast, the first valid response wins (FogROS2-FT, arXiv 2412.05408, section IV).

    OPEN --valid reply--> DONE (Deliver; the losers are cancelled)
    OPEN --deadline-----> DONE (Fail)
    OPEN --every live replica answered, none validly--> DONE (Fail with the best-known reason)

A request that has nobody to ask stays open until its deadline, since a replica may come. One that all asked replicas
lost (killed, link gone) does the same. Broadcasting runs the work on several replicas: it is for stateless services.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from skyfog_core.errors import DeadlineExceeded, LinkLost, NoReplica, NotExecuted, OutcomeUnknown, RequestError
from skyfog_core.ids import RequestId
from skyfog_core.units import MS, ns_to_ms
from skyfog_core.wire.keys import ReplicaKey
from skyfog_router.policy.actions import Action, Cancel, Deliver, Fail, Send


@dataclass(slots=True)
class BroadcastRequest:
    """Asks every live replica, up to `fan_out` at once, and newcomers while it is open."""

    request_id: RequestId
    started_ns: int
    deadline_ns: int
    fan_out: int
    asked: set[ReplicaKey] = field(default_factory=set)  # no answer yet
    ended: dict[ReplicaKey, RequestError] = field(default_factory=dict)  # answered without a result, or lost
    rejoined: set[ReplicaKey] = field(default_factory=set)  # asked, and a new process since: not asked yet
    attempts: int = 0
    may_have_run: bool = False  # somewhere, even if a new process has taken that replica's place since
    done: bool = False

    def ask(self, live: Sequence[ReplicaKey], now_ns: int) -> list[Action]:
        """Ask whoever of `live` was not asked yet, while fewer than `fan_out` live ones are busy with it."""
        if self.done or now_ns >= self.deadline_ns:
            return []
        busy = sum(1 for replica in live if replica in self.asked)
        fresh = [r for r in live if r not in self.asked and r not in self.ended]
        chosen = fresh[: max(0, self.fan_out - busy)]
        budget_ms = max(1, (self.deadline_ns - now_ns) // MS)
        actions: list[Action] = []
        for replica in chosen:
            self.asked.add(replica)
            actions.append(Send(self.request_id, replica, self.attempts, budget_ms))
            self.attempts += 1
        return actions

    def on_reply(self, replica: ReplicaKey, response: Any, now_ns: int) -> list[Action]:
        """A valid reply: the first one is delivered, the losers are cancelled. Late and unknown ones are nothing."""
        if self.done or replica not in self.asked:
            return []
        self.asked.discard(replica)
        return [Deliver(self.request_id, replica, response, now_ns - self.started_ns), *self._close()]

    def on_error(
        self, replica: ReplicaKey, error: RequestError, live: Sequence[ReplicaKey], now_ns: int
    ) -> list[Action]:
        """`replica` answered without a result, or the link to it ended (OutcomeUnknown): ask others, or give up."""
        if self.done or replica not in self.asked:
            return []
        self.asked.discard(replica)
        self.may_have_run |= not isinstance(error, NotExecuted)
        if isinstance(error, LinkLost) and replica in self.rejoined:
            self.rejoined.discard(replica)  # that was the old process
        else:
            self.ended[replica] = error
        more = self.ask(live, now_ns)
        if more or self.asked or not live or not all(r in self.ended for r in live):
            return more
        if any(isinstance(e, LinkLost) for e in self.ended.values()):
            return []  # somebody may come back before the deadline
        return [Fail(self.request_id, self._reason(), now_ns - self.started_ns), *self._close()]

    def on_join(self, replica: ReplicaKey, live: Sequence[ReplicaKey], now_ns: int) -> list[Action]:
        """A replica came, or came back as a new process: it may be asked (again)."""
        self.ended.pop(replica, None)
        if replica in self.asked:
            self.rejoined.add(replica)
        return self.ask(live, now_ns)

    def on_deadline(self, now_ns: int) -> list[Action]:
        """No valid reply in time."""
        if self.done:
            return []
        return [Fail(self.request_id, self._late(now_ns), now_ns - self.started_ns), *self._close()]

    def _close(self) -> list[Action]:
        self.done = True
        losers, self.asked = sorted(self.asked), set()
        return [Cancel(self.request_id, replica) for replica in losers]

    def _reason(self) -> RequestError:
        """Everybody answered without a result: certain only if everybody is certain."""
        errors = list(self.ended.values())
        text = "; ".join(f"{replica}: {error}" for replica, error in sorted(self.ended.items()))
        unsure = [e for e in errors if not isinstance(e, NotExecuted)]
        if self.may_have_run and not unsure:
            return OutcomeUnknown(f"{text}; a process that is gone may have run it")
        return type(unsure[0] if unsure else errors[0])(text)

    def _late(self, now_ns: int) -> RequestError:
        waited = f"after {ns_to_ms(now_ns - self.started_ns):.0f} ms"
        if self.attempts == 0:
            return NoReplica(f"no replica was there to ask, {waited}")
        if not self.asked and self.ended and not self.may_have_run:
            return NoReplica(f"{self._reason()}, {waited}")
        text = [f"{replica}: no answer" for replica in sorted(self.asked)]
        text += [f"{replica}: {error}" for replica, error in sorted(self.ended.items())]
        return DeadlineExceeded(
            f"no valid reply {waited} ({'; '.join(text) or 'who was asked is a new process since'})"
        )
