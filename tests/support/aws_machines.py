"""Machines of the look-alike of AWS that run: each is a real runner, on an address of loopback of its own."""

from __future__ import annotations

import base64
import itertools
import os
import re
import sys
import threading
from pathlib import Path

from skyfog_core.ports import free_tcp_port
from skyfog_pool import report
from support.aws import Shim
from support.processes import Process

BOOT = re.compile(r"^cat >/opt/skyfog/environment <<'(END_\w+)'\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
POLL_S = 0.1


class Machines:
    """Begins a runner for each machine of a pool that AWS has, as its user data says, and ends it with the machine."""

    def __init__(self, shim: Shim, pool: str, port: int, folder: Path) -> None:
        self._shim = shim
        self._pool = pool
        self._port = port
        self._folder = folder
        self.running: dict[str, Process] = {}
        self.seen: dict[str, dict[str, str]] = {}  # what AWS was told to run, by machine
        self._hosts = itertools.count(11)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(POLL_S):
            alive = {machine["id"]: machine for machine in self._shim.machines(self._pool)}
            for name in alive.keys() - self.seen.keys():
                self._boot(name, alive[name])
            for name in self.running.keys() - alive.keys():
                self.running.pop(name).end()

    def _boot(self, name: str, machine: dict[str, str]) -> None:
        found = BOOT.search(base64.b64decode(machine["user_data"]).decode())
        assert found is not None, machine
        environment = self._folder / f"{name}.env"
        environment.write_text(found[2])
        address = f"127.0.0.{next(self._hosts)}"
        # What a machine has to itself, and these share: addresses, ports, and who tells of notices.
        own = {
            report.RUNNER_LISTEN: f"{address}:{self._port}",
            report.SERVICE_PORT: str(free_tcp_port()),
            report.METADATA_URL: f"{self._shim.url}/_imds/{name}",
            report.NOTICE_POLL_S: "0.2",
        }
        work = self._folder / name
        work.mkdir()
        given = " ".join(f"{key}={value}" for key, value in own.items())
        command = f"set -a; . {environment}; cd {work}; exec env {given} {sys.executable} -m skyfog_pool.runner"
        paths = os.pathsep.join(path for path in sys.path if path)
        self.seen[name] = own
        self.running[name] = Process(name, ["bash", "-c", command], self._folder / f"{name}.log", {"PYTHONPATH": paths})
        self._shim.ask("address", id=name, address=address)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        for process in self.running.values():
            process.end()
