"""Seeds that no run has had before."""

from __future__ import annotations

import hashlib
import os


def fresh_seed() -> int:
    """Below 2 to the 32nd; the same in all processes of one run of pytest, which must collect the same tests."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", "").encode() or os.urandom(8)
    return int.from_bytes(hashlib.sha256(run).digest()[:4])
