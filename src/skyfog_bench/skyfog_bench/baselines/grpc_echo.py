"""The echo service over gRPC, and whether grpcio's hedging policy hedges: `… grpc_echo probe` counts the attempts.

gRPC's Python package is built on its C core, which reads `hedgingPolicy` from a service config without acting on it. So
the rules of hedging are measured by baselines/grpc_a6.py, and what grpcio does have beside it: retries of what failed,
and round robin over the servers.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

METHOD = "/skyfog.bench.Echo/Call"
WORKERS = 32
PROBE_ATTEMPTS, PROBE_DELAY_S, PROBE_SERVICE_S, PROBE_LIMIT_S = 3, 0.05, 0.5, 5.0
RETRY = {
    "retryPolicy": {
        "maxAttempts": 3,
        "initialBackoff": "0.01s",
        "maxBackoff": "0.1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
}
HEDGE = {
    "hedgingPolicy": {
        "maxAttempts": PROBE_ATTEMPTS,
        "hedgingDelay": f"{PROBE_DELAY_S}s",
        "nonFatalStatusCodes": ["UNAVAILABLE"],
    }
}


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc,unused-ignore]
    """One method, bytes to bytes."""

    def __init__(self, answer: Callable[[bytes, Any], bytes]) -> None:
        self._answer = answer

    def service(self, _details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._answer)


def serve(port: int, answer: Callable[[bytes, Any], bytes]) -> tuple[Any, int]:
    """A server on 127.0.0.1 (port 0: any), and its port. `answer(request, context)` runs on one of WORKERS threads."""
    server = grpc.server(ThreadPoolExecutor(WORKERS), handlers=(_Handler(answer),))
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, bound


def connect(ports: Sequence[int], policy: dict[str, Any]) -> Any:
    """The method, over round robin; keep-alive as its guide recommends for finding dead connections."""
    config = {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [{"name": [{}], **policy}],
        "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
    }
    options = [
        ("grpc.service_config", json.dumps(config)),
        ("grpc.enable_retries", 1),
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 1_000),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)
    return grpc.insecure_channel(target, options=options).unary_unary(METHOD)


def probe() -> dict[str, Any]:
    """How many attempts three servers see of one slow call under a hedging policy."""
    seen = [0]
    lock = threading.Lock()

    def answer(request: bytes, _context: Any) -> bytes:
        with lock:
            seen[0] += 1
        time.sleep(PROBE_SERVICE_S)
        return request

    made = [serve(0, answer) for _ in range(PROBE_ATTEMPTS)]
    connect([port for _, port in made], HEDGE)(b"x", timeout=PROBE_LIMIT_S, wait_for_ready=True)
    for server, _ in made:
        server.stop(None)
    return {"version": grpc.__version__, "attempts": seen[0], "allowed": PROBE_ATTEMPTS}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(probe()) + "\n")
