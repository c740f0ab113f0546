"""What each service's accuracy weighs, by what the car is about to do."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from skyfog_uplink.policy.model import Scene, Table

Floats = NDArray[np.float64]


class Scenes:
    """The weights of a table's services, by the scene that was told last, else by speed.

    A scene that is told and known holds alone, whatever the speed. Where none is told, or one that the table does not
    have, every scene holds whose bounds of speed the car is within, and the factors multiply. No scene: the table's
    weights as they are.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._by_name = {scene.name: scene for scene in table.scenes}
        self.names: tuple[str, ...] = ()  # that hold
        self.unknown = ""  # the scene that was told last, where the table does not have it
        self.weights: Floats = self._weigh(())

    def tell(self, scene: str, speed_mps: float) -> bool:
        """Returns whether a weight has changed. `scene` may be empty; a speed that is no number tells nothing."""
        named = self._by_name.get(scene)
        self.unknown = scene if scene and named is None else ""
        holding = (named,) if named is not None else tuple(s for s in self._table.scenes if _within(s, speed_mps))
        self.names = tuple(scene.name for scene in holding)
        before, self.weights = self.weights, self._weigh(holding)
        return not np.array_equal(before, self.weights)

    def _weigh(self, holding: tuple[Scene, ...]) -> Floats:
        weights = np.array([service.weight for service in self._table.services])
        for scene in holding:
            weights *= [scene.weights.get(service.name, 1.0) for service in self._table.services]
        return weights


def _within(scene: Scene, speed_mps: float) -> bool:
    """A scene without bounds holds only where it is told."""
    if not math.isfinite(speed_mps) or (scene.above_mps is None and scene.below_mps is None):
        return False
    above = scene.above_mps is None or speed_mps >= scene.above_mps
    return above and (scene.below_mps is None or speed_mps < scene.below_mps)
