"""A small HTTP server for the event loop of a process that does other things too."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

END_LIMIT_S = 1  # for answers under way when the server ends


class Server(uvicorn.Server):
    """Serves one socket that is bound already. It leaves signals to its process."""

    def __init__(self, app: ASGIApp, bound: socket.socket) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=END_LIMIT_S,
                server_header=False,
            )
        )
        self._bound = bound

    async def run_until_end(self) -> None:
        """Until `end`."""
        await self.serve(sockets=[self._bound])

    def end(self) -> None:
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(host: str, port: int) -> socket.socket:
    """A bound TCP socket; port 0: any that is free. Raises OSError."""
    bound = socket.socket()
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound
