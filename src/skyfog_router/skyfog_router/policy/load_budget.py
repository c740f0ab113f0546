"""How much extra work copies may cause: a token bucket, as gRPC's retryThrottling and Finagle's maxExtraLoad.

Each request brings `ratio` tokens, each copy beyond its first takes one. What would miss its SLO without a copy is sent
all the same (a rescue) and owes nothing: rescues are counted apart.
"""

from __future__ import annotations

BURST_REQUESTS = 50  # requests whose tokens may be saved up
LEAST_BURST = 3.0


class LoadBudget:
    """Tokens for copies beyond the first of each request."""

    def __init__(self, ratio: float) -> None:
        self._ratio = ratio
        self._tokens = self.burst
        self.granted = 0

    @property
    def ratio(self) -> float:
        """Copies a request, over the long run."""
        return self._ratio

    @property
    def burst(self) -> float:
        """The most tokens that can be saved up: over any time, granted <= ratio * requests + burst."""
        return max(LEAST_BURST, self._ratio * BURST_REQUESTS) if self._ratio else 0.0

    def reconfigure(self, ratio: float) -> None:
        """Another ratio from now on; what was saved up is kept as far as it still fits."""
        self._ratio = ratio
        self._tokens = min(self._tokens, self.burst)

    def on_request(self) -> None:
        """A request came."""
        self._tokens = min(self.burst, self._tokens + self._ratio)

    def has(self, tokens: float = 1.0) -> bool:
        """Whether so many copies could be taken now."""
        return self._tokens >= tokens

    def take(self) -> bool:
        """One copy, if there is a token for it."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        self.granted += 1
        return True
