"""The callbacks of the perception services, called in their own process as a replica that embeds them calls them.

python -m skyfog_bench.nodes.perception IMAGE
"""

from __future__ import annotations

import sys
import time
from array import array
from pathlib import Path
from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.serialization import serialize_message

from skyfog_bench.serve import serve
from skyfog_core.logs import configure_logs
from skyfog_core.nodes.main import keep_freed_memory
from skyfog_core.nodes.parameters import NODE_OPTIONS
from skyfog_core.wire.envelope import Encoding
from skyfog_core.wire.payload import pack
from skyfog_interfaces.msg import Status
from skyfog_perception.nodes.detect import DetectService
from skyfog_perception.nodes.segment import SegmentService


def call(service: Any, jpeg: bytes) -> list[float]:
    """Milliseconds of the whole callback, of processor time, and of the three stages that the response has."""
    request, response = _messages(service, jpeg)
    processor, began = time.thread_time(), time.perf_counter()
    response = service(request, response)
    whole_ms, processor_ms = (time.perf_counter() - began) * 1e3, (time.thread_time() - processor) * 1e3
    if response.status.code != Status.OK:
        raise TimeoutError(f"{service.name}: {response.status.message}")  # what serve passes on
    return [whole_ms, processor_ms, response.decode_ms, response.inference_ms, response.postprocess_ms]


def sizes(service: Any, jpeg: bytes) -> list[int]:
    """Bytes of the request and of the response, as they are sent with `compress: zstd`."""
    request, response = _messages(service, jpeg)
    sent = [serialize_message(message) for message in (request, service(request, response))]
    return [len(pack(payload, Encoding.ZSTD)[1]) for payload in sent]


def _messages(service: Any, jpeg: bytes) -> tuple[Any, Any]:
    request, response = service.srv_type.Request(), service.srv_type.Response()
    request.compressed_image.data = array("B", jpeg)
    return request, response


def main() -> None:
    """Serve `round` and `sizes` until standard input ends."""
    configure_logs("bench")
    keep_freed_memory()
    rclpy.init()
    jpeg = Path(sys.argv[1]).read_bytes()
    kinds = (DetectService, SegmentService)
    services: dict[str, Any] = {kind.name: kind(Node(kind.name, **NODE_OPTIONS)) for kind in kinds}

    def round_(case: str, count: int, warm: int) -> dict[str, Any]:
        return {"calls": [call(services[case], jpeg) for _ in range(warm + count)][warm:]}

    try:
        serve({"round": round_, "sizes": lambda case: {"bytes": sizes(services[case], jpeg)}})
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
