"""Runs the HTTP server until a signal; requests under way are finished first, as long as `drain_s` allows."""

from __future__ import annotations

import contextlib
import math
import signal
import socket
from collections.abc import Iterator

import structlog
import uvicorn

from skyfog_core.config.inference import ServerConfig
from skyfog_core.errors import ConfigError
from skyfog_inference.served import Served
from skyfog_inference.server.app import Server

BACKLOG = 1_024
KEEP_ALIVE_S = 30

log = structlog.get_logger()


class _Server(uvicorn.Server):
    """One that says when it listens, and returns after a signal: uvicorn's own would die of it."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for door in sockets or []:
            host, port = door.getsockname()[:2]
            log.info("serving", url=f"http://{f'[{host}]' if ':' in host else host}:{port}/v1")

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def bound(config: ServerConfig) -> socket.socket:
    """A socket that has the port and does not listen yet: what asks for health is refused until the model is there.

    Raises ConfigError that names host and port.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, protocol)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
        except OSError:
            made.close()
            raise
    except OSError as error:
        raise ConfigError(
            f"server.port: cannot listen on {config.host} port {config.port}: {error.strerror or error}"
        ) from None
    return made


def serve(served: Served, config: ServerConfig, door: socket.socket) -> None:
    """Serve on `door`, in the main thread, until SIGINT or SIGTERM."""
    app = Server(served, config.api_key).app()
    uvicorn_config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_keep_alive=KEEP_ALIVE_S,
        backlog=BACKLOG,
        timeout_graceful_shutdown=math.ceil(config.drain_s),
    )
    _Server(uvicorn_config).run(sockets=[door])
    log.info("served")
