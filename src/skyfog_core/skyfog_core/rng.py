"""Random streams that depend on a seed and a name, not on the order in which they are made."""

from __future__ import annotations

import hashlib
import random


def stream(seed: int, *names: str) -> random.Random:
    """A generator of its own for `names` under `seed`: adding a second stream leaves the first unchanged."""
    digest = hashlib.sha256(repr((seed, names)).encode()).digest()
    return random.Random(digest)
