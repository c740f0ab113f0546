"""How many replicas the load needs: by request rate, by queue, by latency; the largest of those that are set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, Protocol

from skyfog_core.config.pool import ReplicaPolicyConfig
from skyfog_core.units import S
from skyfog_pool.policy.hysteresis import Hysteresis
from skyfog_pool.policy.view import Load, Replica

MOST_STEP = 2.0  # a violated objective raises the target by no more than this factor at once
BUSY = 0.7  # share of the time that replicas may work after a step down: beyond it queues grow fast


class Scaling(Protocol):
    """Says how many replicas are wanted ready. Pure; the pool's policy owns it."""

    def target(self, load: Load | None, replicas: Sequence[Replica], now_ns: int) -> int: ...
    def next_timer_ns(self) -> int | None: ...

    def reconfigure(self, config: ReplicaPolicyConfig) -> None:
        """Another policy for the same service: its bounds hold at once."""
        ...

    def snapshot(self, now_ns: int) -> dict[str, Any]:
        """What it remembers, as plain data for JSON; times as ages."""
        ...

    def restore(self, state: Mapping[str, Any], now_ns: int) -> None: ...


class Fixed:
    """Always the same number."""

    def __init__(self, replicas: int) -> None:
        self.replicas = replicas

    def target(self, load: Load | None, replicas: Sequence[Replica], now_ns: int) -> int:
        return self.replicas

    def next_timer_ns(self) -> int | None:
        return None

    def reconfigure(self, config: ReplicaPolicyConfig) -> None:
        pass

    def snapshot(self, now_ns: int) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any], now_ns: int) -> None:
        pass


class Demand:
    """What a service file's replica_policy says. Without any load report the target stays."""

    def __init__(self, config: ReplicaPolicyConfig) -> None:
        self._config = config
        self._hysteresis = Hysteresis(config.min_replicas, *_delays_ns(config))

    def target(self, load: Load | None, replicas: Sequence[Replica], now_ns: int) -> int:
        config = self._config
        if load is None or config.most == config.min_replicas:
            return self._hysteresis.target
        wish = min(config.most, max(config.min_replicas, self._wish(load, replicas)))
        return self._hysteresis.follow(wish, now_ns)

    def next_timer_ns(self) -> int | None:
        return self._hysteresis.next_timer_ns()

    def reconfigure(self, config: ReplicaPolicyConfig) -> None:
        self._config = config
        self._hysteresis.up_ns, self._hysteresis.down_ns = _delays_ns(config)
        self._hysteresis.clamp(config.min_replicas, config.most)

    def snapshot(self, now_ns: int) -> dict[str, Any]:
        return self._hysteresis.snapshot(now_ns)

    def restore(self, state: Mapping[str, Any], now_ns: int) -> None:
        self._hysteresis.restore(state, now_ns)
        self._hysteresis.clamp(self._config.min_replicas, self._config.most)

    def _wish(self, load: Load, replicas: Sequence[Replica]) -> int:
        config = self._config
        wishes = [0]
        if config.qps:
            # Which kinds of machines will come is not known: the weakest must do.
            wishes.append(ceil(_rate(load) / min(config.qps.values())))
        if config.target_queue_per_replica is not None:
            wishes.append(ceil(load.queued / config.target_queue_per_replica))
        if config.slo_ms is not None:
            ready = sum(replica.is_ready for replica in replicas)
            wishes.append(self._by_latency(load, ready, config.slo_ms))
        return max(wishes)

    def _by_latency(self, load: Load, ready: int, slo_ms: float) -> int:
        """One proportional step up while the objective is missed, and down as far as the model says that it holds."""
        target = self._hysteresis.target
        if load.requests == 0 and load.queued == 0 and load.running == 0:
            return 0
        missed = self._missed_by(load, slo_ms)
        if missed > 1.0:
            # What was ordered already is not there yet: a second step would answer the same need twice.
            return target if ready < target else max(target + 1, ceil(target * min(MOST_STEP, missed)))
        return self._fewer(load, ready, target, slo_ms)

    def _missed_by(self, load: Load, slo_ms: float) -> float:
        """Above 1: the objective is missed; P99 in parts of it, where that is larger."""
        late = load.over_slo is not None and load.over_slo > 1.0 - self._config.slo_target
        p99 = (load.p99_ms or 0.0) / slo_ms
        if load.over_slo is None:
            return p99
        return max(p99, 1.01) if late else min(p99, 1.0)

    def _fewer(self, load: Load, ready: int, target: int, slo_ms: float) -> int:
        """The fewest that the model allows. Waiting grows as 1 / (1 - utilisation) (M/M/1), service does not change.

        Replicas are taken to run one request at a time; those that run more are less busy than this says, so that fewer
        would do: an error on the safe side.
        """
        if load.service_ms is None or load.p99_ms is None or ready == 0:
            return target
        work = _rate(load) * load.service_ms / 1e3  # replicas that would be busy all the time
        now = work / ready
        if now >= 1.0:
            return target
        waiting_ms = max(0.0, load.p99_ms - load.service_ms)
        fewest = target
        while fewest > 1:
            then = work / (fewest - 1)
            if then > BUSY or load.service_ms + waiting_ms * (1.0 - now) / (1.0 - then) > slo_ms:
                break
            fewest -= 1
        return fewest


def _rate(load: Load) -> float:
    """Requests a second."""
    return load.requests / (load.window_ns / S) if load.window_ns > 0 else 0.0


def _delays_ns(config: ReplicaPolicyConfig) -> tuple[int, int]:
    return round(config.upscale_delay_seconds * S), round(config.downscale_delay_seconds * S)
