"""`/metrics` over HTTP, for Prometheus. Plain text without access control: listen where only Prometheus can reach."""

from __future__ import annotations

import structlog
from prometheus_client import CollectorRegistry, start_http_server

from skyfog_core.errors import ConfigError

STOP_LIMIT_S = 2.0

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


class MetricsServer:
    """Serves one registry from threads of its own until it is closed."""

    def __init__(self, registry: CollectorRegistry, listen: str) -> None:
        """`listen` is HOST:PORT, port 0 for a free one. Raises ConfigError where it cannot listen there."""
        host, port = host_and_port(listen)
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            raise ConfigError(f"{listen!r}: cannot listen there: {error.strerror or error}") from None
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_port}/metrics"
        log.info("metrics_served", url=self.url)

    def close(self) -> None:
        """Take no more scrapes, free the port. Waits at most STOP_LIMIT_S."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(STOP_LIMIT_S)
