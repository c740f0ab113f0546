"""What a replica's runner says over HTTP, and the environment that it is given: the contract of controller and runner.

    GET  /status?after=N&wait_s=S   a Status, at once where its `change` is above N, else at the next change or after S
    POST /drain?within_s=S          drop the token, finish what is here; 202
    any other path                  passed on to the service's own HTTP port, e.g. /ready or a SkyServe probe's path

A runner watches for the cloud's notices itself. On one it drains its service without being told: at once, or, where
ON_NOTICE is `serve`, DRAIN_S before the machine goes (policy/doomed.py), unless it is told to before.
"""

from __future__ import annotations

from typing import Literal

import msgspec

# Environment of a runner; of the replica command too.
POOL = "SKYFOG_POOL"
REPLICA = "SKYFOG_REPLICA"  # the replica's number in the pool
NAME = "SKYFOG_REPLICA_NAME"  # its name within the zone, on the fleet's network: see replica_name
VERSION = "SKYFOG_VERSION"
ZONE = "SKYFOG_ZONE"
MARKET = "SKYFOG_MARKET"
PRICE = "SKYFOG_PRICE_PER_HOUR"
FLEET = "SKYFOG_FLEET"
SERVICE = "SKYFOG_SERVICE"
CONNECT = "SKYFOG_CONNECT"  # zenoh endpoints of the fleet's network, with commas between; may be empty
RUNNER_LISTEN = "SKYFOG_RUNNER_LISTEN"  # HOST:PORT of the runner
SERVICE_PORT = "SKYFOG_SERVICE_PORT"  # loopback port on which the service answers its probes, and the proxy /drain
NOTICE_SOURCE = "SKYFOG_NOTICE_SOURCE"  # aws, gcp, azure, file or none
METADATA_URL = "SKYFOG_METADATA_URL"  # of a look-alike; empty: the cloud's own address
NOTICE_FILE = "SKYFOG_NOTICE_FILE"  # of source `file`
NOTICE_POLL_S = "SKYFOG_NOTICE_POLL_S"
ON_NOTICE = "SKYFOG_ON_NOTICE"  # drain or serve: replica_policy.on_notice
DRAIN_S = "SKYFOG_DRAIN_S"  # replica_policy.drain_seconds
COMMAND = "SKYFOG_RUN"  # the replica: a shell command
SETUP = "SKYFOG_SETUP"
GRACE_S = "SKYFOG_GRACE_S"  # between SIGTERM and SIGKILL of the replica at the end

RunnerPhase = Literal["setting_up", "starting", "ready", "draining", "drained", "ended"]


class RunnerNotice(msgspec.Struct, frozen=True):
    """What the cloud said."""

    kind: Literal["interruption", "rebalance"]
    in_s: float | None = None  # time left when this status was sent


class Status(msgspec.Struct, frozen=True):
    """Of a runner and what it runs."""

    change: int  # grows with every change
    phase: RunnerPhase
    notice: RunnerNotice | None = None
    running: int = 0  # requests
    waiting: int = 0
    exit_status: int | None = None  # of the replica, where it ended
    message: str = ""
    boot: int = 0  # of the runner: another value is another process


def replica_name(pool: str, replica: int) -> str:
    """A replica's name on the fleet's network."""
    return f"{pool}-{replica}"


def replica_number(pool: str, name: str) -> int | None:
    """The replica that a name on the fleet's network means; None for one that is not of the pool."""
    prefix, _, number = name.rpartition("-")
    return int(number) if prefix == pool and number.isdecimal() else None
