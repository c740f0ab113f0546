"""TURBO as published (NINeS 2026): its allocation. A peer to measure against, not what Skyfog plans with.

One number for the link's rate and one for the RTT; an option is worth its accuracy at its critical bandwidth
b_c = S/(SLO - RTT - exec), of means, and nothing below; maximise the sum of the accuracies with sum of b_c <= B, every
500 ms. The paper solves it with PuLP/CBC; the exact knapsack here has the same optimum. Given the benefit of the doubt:
the weights of services and scenes count, as in its extension to several utilities [our reading], and a service that is
given nothing keeps its floor.

What B is, is the sender's matter: CWND/RTT of BBR. `rates_bps` of the link state that it is given are all that number.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from skyfog_uplink.policy.baselines import PERIOD_MS, Periodic
from skyfog_uplink.policy.model import FLOOR, Table
from skyfog_uplink.policy.solve import Choices, Knapsack, padded

CELLS = 4_000  # so fine that the grid is no handicap


def turbo(table: Table) -> Periodic:
    """TURBO's allocation over a table."""
    floors = np.array([service.floor.accuracy for service in table.services])
    accuracies = padded([[option.accuracy for option in service.options] for service in table.services], 0.0)

    def rule(critical: list[list[float]], weights: NDArray[np.float64], budget_bps: float) -> list[tuple[int, float]]:
        if budget_bps <= 0 or not math.isfinite(budget_bps):
            return [(FLOOR, 0.0)] * len(critical)
        knapsack = Knapsack(CELLS, budget_bps / CELLS)
        knapsack.solve(Choices(weights * floors, weights[:, None] * accuracies, padded(critical, math.inf)))
        chosen = knapsack.choice(budget_bps)
        return [
            (option, 0.0 if option == FLOOR else needed[option])
            for option, needed in zip(chosen, critical, strict=True)
        ]

    return Periodic(table, rule, PERIOD_MS)
