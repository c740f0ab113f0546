"""What a client has seen of machines that their cloud forgets as soon as they are gone. Threads may share one."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterable

from skyfog_pool.provider.base import Ending, Instance, Phase

MOST_ENDED = 1_000  # of the machines that are gone, so many are remembered


class Seen:
    """Machines by id, as last seen, and which were given back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times = itertools.count(1)
        self._known: dict[str, tuple[int, Instance]] = {}  # when, and how
        self._returned: dict[str, None] = {}  # in the order in which they were

    def now(self) -> int:
        """To be taken before a listing is asked for: what is seen later may be missing in it."""
        return next(self._times)

    def last(self, name: str) -> Instance | None:
        with self._lock:
            return self._known.get(name, (0, None))[1]

    def keep(self, instance: Instance) -> Instance:
        with self._lock:
            self._known[instance.id] = (next(self._times), instance)
        return instance

    def give_back(self, name: str) -> None:
        with self._lock:
            self._returned[name] = None
            while len(self._returned) > MOST_ENDED:
                del self._returned[next(iter(self._returned))]

    def is_returned(self, name: str) -> bool:
        with self._lock:
            return name in self._returned

    def gone(
        self, pool: str, found: Iterable[Instance], asked: int, why: Callable[[Instance], Ending]
    ) -> list[Instance]:
        """Those of `pool` that were seen before `asked` and are not `found`; `why` tells for those not given back."""
        alive = {instance.id for instance in found}
        with self._lock:
            for name, (when, last) in self._known.items():
                if last.pool == pool and name not in alive and when < asked and last.phase is not Phase.GONE:
                    ending = Ending.RETURNED if name in self._returned else why(last)
                    self._known[name] = (when, dataclasses.replace(last, phase=Phase.GONE, ending=ending))
            ended = [name for name, (_, last) in self._known.items() if last.phase is Phase.GONE]
            for name in ended[: max(0, len(ended) - MOST_ENDED)]:
                del self._known[name]
            mine = [last for _, last in self._known.values() if last.pool == pool and last.id not in alive]
        return [last for last in mine if last.phase is Phase.GONE]
