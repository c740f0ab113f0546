"""`/metrics` over HTTP, for Prometheus, and what else a proxy answers there.

Plain text without access control: listen where only Prometheus can reach. Paths that change something are for callers
on the machine itself.
"""

from __future__ import annotations

import http
import ipaddress
import json
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import structlog
from prometheus_client import CollectorRegistry, make_wsgi_app

from skyfog_core.errors import ConfigError

STOP_LIMIT_S = 2.0
REQUEST_LIMIT_S = 10.0  # for a client to send its request, and between any two parts of it

log = structlog.get_logger()


def host_and_port(text: str) -> tuple[str, int]:
    """`HOST:PORT`, an IPv6 address in brackets. Raises ConfigError."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f"{text!r}: an IPv6 address goes in brackets, e.g. [::1]:9464")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ConfigError(f"{text!r}: not HOST:PORT with a port from 0 to 65535, e.g. 127.0.0.1:9464")
    return host, int(port)


@dataclass(frozen=True, slots=True)
class Route:
    """What a path does: from the query's values to a status and a JSON object. Raises ValueError for wrong values."""

    method: str
    answer: Callable[[Mapping[str, str]], tuple[int, Mapping[str, Any]]]
    from_loopback: bool = False


class MetricsServer:
    """Serves one registry, and `routes` by path, from threads of its own until it is closed."""

    def __init__(self, registry: CollectorRegistry, listen: str, routes: Mapping[str, Route] | None = None) -> None:
        """`listen` is HOST:PORT, port 0 for a free one. Raises ConfigError where it cannot listen there."""
        host, port = host_and_port(listen)
        try:
            self._server = (_Server6 if ":" in host else _Server)((host, port), _Handler)
        except OSError as error:
            raise ConfigError(f"{listen!r}: cannot listen there: {error.strerror or error}") from None
        self._server.set_app(_app(make_wsgi_app(registry), routes or {}))
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_port}/metrics"
        log.info("metrics_served", url=self.url)

    def close(self) -> None:
        """Take no more requests, free the port. Waits at most STOP_LIMIT_S."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(STOP_LIMIT_S)


def _app(metrics: Callable[..., Any], routes: Mapping[str, Route]) -> Callable[..., Iterable[bytes]]:
    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        route = routes.get(environ["PATH_INFO"])
        if route is None:
            found: Iterable[bytes] = metrics(environ, start)
            return found
        status, said = _answer(route, environ)
        body = json.dumps(said).encode() + b"\n"
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start(f"{status} {http.HTTPStatus(status).phrase}", headers)
        return [body]

    return answer


def _answer(route: Route, environ: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
    if environ["REQUEST_METHOD"] != route.method:
        return 405, {"error": f"only {route.method}"}
    if route.from_loopback and not _is_loopback(environ["REMOTE_ADDR"]):
        return 403, {"error": "only from the machine itself"}
    try:
        return route.answer({name: values[-1] for name, values in parse_qs(environ["QUERY_STRING"]).items()})
    except ValueError as error:
        return 400, {"error": str(error)}


def _is_loopback(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 64

    def server_bind(self) -> None:
        """As WSGIServer's, without asking the network for a name."""
        super(WSGIServer, self).server_bind()
        host, self.server_port = self.server_address[:2]
        self.server_name = str(host)
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("http_failed", client=str(client_address))


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_LIMIT_S

    def address_string(self) -> str:
        return str(self.client_address[0])

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name is the standard library's
        """Nothing: it is asked all the time."""
