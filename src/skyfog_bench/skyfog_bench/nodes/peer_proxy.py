"""A robot proxy with a peer's rules in place of ours: `… peer_proxy NAME RULES --ros-args …`.

NAME is `grpc_a6` or `fogros2_ft`, RULES a JSON object with its configuration. All else (ROS, driver, transport) is
skyfog_router's, so that only the decisions differ.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from typing import Any, cast

from skyfog_bench.baselines.fogros2_ft import FogRos2Ft
from skyfog_bench.baselines.grpc_a6 import A6Config, GrpcA6
from skyfog_bench.baselines.peer_policy import PeerPolicy
from skyfog_core.config.router import RobotProxyConfig
from skyfog_core.nodes.main import run
from skyfog_interfaces.srv import Echo
from skyfog_router.nodes.robot_proxy import RobotProxy
from skyfog_router.policy.router import Router
from skyfog_router.robot import Endpoint

PEERS: dict[str, Callable[[dict[str, Any]], PeerPolicy]] = {
    "grpc_a6": lambda rules: GrpcA6(A6Config(**rules)),
    "fogros2_ft": lambda rules: FogRos2Ft(Echo.Response(), **rules),
}


class PeerProxy(RobotProxy):
    """RobotProxy, decided by a peer."""

    def _endpoint(self, config: RobotProxyConfig, key: str, name: str) -> Endpoint:
        policy = PEERS[sys.argv[1]](json.loads(sys.argv[2]))
        # The driver asks for what PeerPolicy has.
        return dataclasses.replace(super()._endpoint(config, key, name), router=cast("Router", policy))


def main() -> None:
    """Run until a signal."""
    sys.exit(run("robot_proxy", lambda: [PeerProxy()]))


if __name__ == "__main__":
    main()
