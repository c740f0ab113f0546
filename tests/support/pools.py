"""Pools of real processes for tests: a state folder, a local cloud, `skyfog pool` as a process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from skyfog_core.config.pool_local import LocalOptions
from skyfog_pool import verbs
from skyfog_pool.folders import STATE_DIR, Folder
from skyfog_pool.provider.base import Instance, Phase
from skyfog_pool.provider.local import LocalCloud, LocalProvider
from skyfog_pool.starting import MODULES
from support.processes import wait_until

SERVER = (
    'mkdir -p www && touch www/ready && cd www && exec python3 -m http.server "$SKYFOG_SERVICE_PORT" --bind 127.0.0.1'
)
OPTIONS = {"namespaces": False, "stop_s": 0.5, "notice_s": 5.0, "linger_s": 5.0}
LIMIT_S = 60.0


def service(**changes: Any) -> dict[str, Any]:
    """A service file of two spot replicas that serve a folder."""
    policy = {
        "min_replicas": 2,
        "spot_placer": "spothedge",
        "num_overprovision": 0,
        "dynamic_ondemand_fallback": False,
        "drain_seconds": 1,
        **changes.pop("policy", {}),
    }
    return {
        "name": "web",
        "service": {
            "readiness_probe": {
                "path": "/ready",
                "initial_delay_seconds": 60,
                "endpoint_probe_interval_seconds": 0.3,
                "consecutive_failure_threshold_timeout": 20,
            },
            "replica_policy": policy,
        },
        "resources": {"use_spot": True},
        "run": SERVER,
        "provider_options": OPTIONS,
        **changes,
    }


class Pools:
    """A state folder of its own, and what runs in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cloud = LocalCloud(folder / "local")
        self.environment = {
            **os.environ,
            STATE_DIR: str(folder),
            "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        }

    def write(self, values: dict[str, Any], name: str = "web.yaml") -> Path:
        path = self.folder / name
        path.write_text(yaml.safe_dump(values))
        return path

    def run(self, *arguments: object, limit_s: float = LIMIT_S) -> subprocess.CompletedProcess[str]:
        """`skyfog pool …`, to its end."""
        code = "from skyfog_pool.cli import app; app(prog_name='skyfog pool')"
        return subprocess.run(
            [sys.executable, "-c", code, *(str(argument) for argument in arguments)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def must(self, *arguments: object, limit_s: float = LIMIT_S) -> str:
        done = self.run(*arguments, limit_s=limit_s)
        assert done.returncode == 0, (arguments, done.returncode, done.stdout, done.stderr, self.log())
        return done.stdout

    def pool(self, name: str = "web") -> Folder:
        return Folder(self.folder / "pools" / name)

    def log(self, name: str = "web") -> str:
        return "\n".join(verbs.tail(self.pool(name).log, 40))

    def status(self, name: str = "web") -> dict[str, Any]:
        return verbs.status_of(self.pool(name))

    def alive(self, name: str = "web") -> list[Instance]:
        """The pool's machines, as the cloud has them."""
        provider = LocalProvider(self.folder / "local", LocalOptions(**OPTIONS))  # type: ignore[arg-type]
        try:
            return [machine for machine in provider.instances(name) if machine.phase is not Phase.GONE]
        finally:
            provider.close()

    def kill_controller(self, name: str = "web") -> bool:
        """SIGKILL; False where none runs."""
        pid = self.pool(name).controller()
        if not pid:
            return False
        with contextlib.suppress(ProcessLookupError):  # one that was told to end may, while we look
            os.kill(pid, signal.SIGKILL)
        wait_until("the controller's end", lambda: self.pool(name).controller() is None)
        return True

    def wait_ready(self, count: int, name: str = "web") -> None:
        """So many READY, each on a machine of its own, and no other machine; by a controller that lives."""

        def holds() -> bool:
            now = self.status(name)
            ready = [each["instance"] for each in now["replicas"] if each["state"] == "READY"]
            if now["controller"] is None or len(ready) != count or len(now["replicas"]) != count:
                return False
            return sorted(machine.id for machine in self.alive(name)) == sorted(ready)

        try:
            wait_until(f"{count} READY", holds, LIMIT_S)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.status(name)}\n{self.alive(name)}\n{self.log(name)}") from None

    def close(self) -> None:
        for process in _of(self.folder):
            if any(module in process.info["cmdline"] for module in MODULES):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self.cloud.end()
        self.cloud.close()


def _left(folder: Path) -> list[str]:
    """Processes of the state folder that still run."""
    return [" ".join(process.info["cmdline"]) for process in _of(folder)]


def _of(folder: Path) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline", "environ", "status"])
        if (process.info["environ"] or {}).get(STATE_DIR) == str(folder)
        and process.info["status"] != psutil.STATUS_ZOMBIE
        and process.pid != os.getpid()
    ]


@contextmanager
def pools_in(folder: Path) -> Iterator[Pools]:
    """Everything ended at the end, and nothing left: the leak test."""
    pools = Pools(folder)
    try:
        yield pools
    finally:
        pools.close()
    try:
        wait_until("the end of every process", lambda: not _left(folder), 10.0)
    except TimeoutError as error:
        raise TimeoutError(f"{error}: {_left(folder)}") from None


__all__ = ["Pools", "pools_in", "service"]
