"""Where things are: the tree of frames that /tf describes. `a_from_b` is the pose of frame b in frame a."""

from __future__ import annotations

import numpy as np

from skyfog_core.errors import SkyfogError
from skyfog_core.poses import Pose, inverse

MAX_DEPTH = 64  # of a tree of frames; a longer chain is a loop


class UnknownFrame(SkyfogError):
    """Two frames are not joined by what was heard on /tf so far."""


class FrameTree:
    """The newest transform of every frame to its parent, as /tf and /tf_static tell it."""

    def __init__(self) -> None:
        self._parents: dict[str, tuple[str, Pose]] = {}

    def heard(self, parent: str, child: str, parent_from_child: Pose) -> None:
        self._parents[child] = (parent, parent_from_child)

    def lookup(self, target: str, source: str) -> Pose:
        """target_from_source. Raises UnknownFrame that names the two and what is known."""
        up = dict(self._chain(target))
        for name, name_from_source in self._chain(source):
            if name in up:
                return inverse(up[name]) @ name_from_source
        known = ", ".join(sorted({*self._parents, *(parent for parent, _ in self._parents.values())})) or "none"
        raise UnknownFrame(f"{source} and {target} are not joined on /tf (known frames: {known})")

    def _chain(self, frame: str) -> list[tuple[str, Pose]]:
        """(ancestor, ancestor_from_frame) from the frame itself up to its root."""
        chain = [(frame, np.eye(4))]
        while frame in self._parents:
            if len(chain) > MAX_DEPTH:
                raise UnknownFrame(f"/tf has a loop through {frame}")
            parent, parent_from_child = self._parents[frame]
            chain.append((parent, parent_from_child @ chain[-1][1]))
            frame = parent
        return chain
