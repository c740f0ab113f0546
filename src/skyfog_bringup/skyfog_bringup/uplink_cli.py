"""`skyfog uplink`: the verbs of skyfog_uplink, and those that join it with other packages."""

from __future__ import annotations

from skyfog_uplink.cli import app

__all__ = ["app"]
