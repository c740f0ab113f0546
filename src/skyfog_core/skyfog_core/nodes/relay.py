"""ROS services as bytes, and answers that come later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_services_default
from rclpy.serialization import deserialize_message, serialize_message
from rclpy.service import Service

from skyfog_core.errors import InvalidReply

# A service's default depth of 10 loses requests when more than 10 calls come between two takes: of 50 calls at once
# some were never answered. Reliable and keep-last as rclpy's service default, only deeper.
SERVICE_DEPTH = 1_000


def service_qos() -> QoSProfile:
    """rclpy's service default, deep enough for many calls at once."""
    return QoSProfile(
        depth=SERVICE_DEPTH,
        history=qos_profile_services_default.history,
        reliability=qos_profile_services_default.reliability,
        durability=qos_profile_services_default.durability,
    )


def to_cdr(message: Any) -> bytes:
    """A ROS message as CDR."""
    return bytes(serialize_message(message))


def decoder(message_type: Any) -> Callable[[bytes], Any]:
    """CDR to `message_type`; raises InvalidReply for bytes that are none."""

    def decode(data: bytes) -> Any:
        if len(data) < 4:
            raise InvalidReply(f"{len(data)} bytes are no CDR")
        try:
            return deserialize_message(data, message_type)
        except Exception as error:  # noqa: BLE001  # RMWError, RuntimeError, MemoryError …
            raise InvalidReply(f"no {message_type.__name__}: {error}") from None

    return decode


class DeferredService:
    """A ROS service whose answers come later, from any thread, in any order.

    rclpy sends what a callback returns. Here the callback returns the request itself, and `send_response` of this one
    service, which the executor calls next with it, hands both to `on_request` instead of sending. That is all: the
    executors, of which each calls `service.send_response`, stay as they are.
    """

    def __init__(self, node: Node, srv_type: Any, name: str, on_request: Callable[[Any, Any], None]) -> None:
        self._service: Service = node.create_service(
            srv_type, name, lambda request, _response: request, qos_profile=service_qos()
        )
        self._service.send_response = on_request

    @property
    def name(self) -> str:
        """The resolved name."""
        return self._service.service_name

    def respond(self, response: Any, header: Any) -> None:
        """Send one answer to the client that `header` names."""
        Service.send_response(self._service, response, header)
