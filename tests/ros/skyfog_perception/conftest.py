"""A node to build a service on, in a ROS domain of its own, and its logs."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import rclpy
import structlog
from rclpy.node import Node
from rclpy.parameter import Parameter

from skyfog_core.logs import configure_logs
from skyfog_core.nodes.parameters import NODE_OPTIONS
from support.ros import free_domain


@pytest.fixture(scope="module")
def service_with() -> Iterator[Callable[..., Any]]:
    """`service_with(DetectService, threads=2)`: the service on a node with these parameters."""
    context = rclpy.context.Context()
    rclpy.init(context=context, domain_id=free_domain())
    nodes: list[Node] = []

    def make(service: Any, **parameters: Any) -> Any:
        given = {"max_pixels": 1_000_000, **parameters}
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        options = {"context": context, "use_global_arguments": False, **NODE_OPTIONS}
        nodes.append(Node(service.name, parameter_overrides=overrides, **options))
        return service(nodes[-1])

    yield make
    for node in nodes:
        node.destroy_node()
    rclpy.try_shutdown(context=context)


@pytest.fixture
def logs_of_production(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What our nodes write to stderr. structlog by itself prints local variables, which takes minutes for an image."""
    written = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", written)
        configure_logs("test")
    yield written
    structlog.reset_defaults()
