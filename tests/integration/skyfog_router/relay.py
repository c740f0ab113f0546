"""A TCP relay on loopback that a test may cut and mend, and that counts what passes. Every wait has a limit."""

from __future__ import annotations

import contextlib
import socket
import threading

from skyfog_core.ports import free_tcp_port

LIMIT_S = 10.0


class Relay:
    """Passes connections on to `target` (HOST:PORT)."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._port = free_tcp_port()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._server: socket.socket | None = None
        self._flowing = threading.Event()
        self._flowing.set()
        self.passed_bytes = 0
        self.mend()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def mend(self) -> None:
        """Take connections (again)."""
        server = socket.create_server(("127.0.0.1", self._port))
        self._server = server
        threading.Thread(target=self._accept, args=(server,), daemon=True).start()

    def hold(self) -> None:
        """Pass nothing on, and tell nobody."""
        self._flowing.clear()

    def let_go(self) -> None:
        """Pass on what was held, and whatever follows."""
        self._flowing.set()

    def cut(self) -> None:
        """Close what is open, refuse what comes."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown(socket.SHUT_RDWR)  # wakes the accepting thread
            server.close()
        with self._lock:
            ends, self._open = self._open, set()
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.let_go()
        self.cut()

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = server.accept()
                try:
                    far = socket.create_connection(self._target, LIMIT_S)
                except OSError:
                    near.close()
                    continue
                far.settimeout(None)
                with self._lock:
                    self._open |= {near, far}
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                self._flowing.wait(LIMIT_S)
                with self._lock:
                    self.passed_bytes += len(data)
                other.sendall(data)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._open -= {one, other}
        one.close()
