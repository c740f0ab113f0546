"""A pool's controller as a process: started in the background, one a pool, ended by its pool's end or by a signal."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from skyfog_core.errors import ConfigError, SkyfogError
from skyfog_pool.controller import Controller
from skyfog_pool.fleet import OpenFleet
from skyfog_pool.folders import STATE_DIR, Folder, Held, Lock, folder_of, root
from skyfog_pool.metrics import serve as serve_metrics

log = logging.getLogger(__name__)
EXIT_HELD = 4
EXIT_FAILED = 3
# With the fleet's network where skyfog_bringup is installed; without it readiness is the probe's word alone.
MODULES = ("skyfog_bringup.pool_controller", "skyfog_pool.daemon")


def main(open_fleet: OpenFleet | None = None) -> None:
    """Run a controller until its pool is down; ends the process."""

    def run(
        pool: Annotated[str, typer.Argument(help="its name")],
        metrics: Annotated[str, typer.Option("--metrics", metavar="HOST:PORT", help="Prometheus metrics there")] = "",
    ) -> None:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        logging.getLogger("httpx").setLevel(logging.WARNING)
        raise typer.Exit(serve(folder_of(pool), open_fleet, metrics))

    typer.run(run)


def serve(folder: Folder, open_fleet: OpenFleet | None = None, metrics: str = "") -> int:
    """Run a pool's controller in this process. Returns an exit status; SIGTERM and SIGINT leave the machines."""
    try:
        with Lock(folder):
            asyncio.run(_serve(folder, open_fleet, metrics))
    except Held as error:
        log.warning("%s", error)
        return EXIT_HELD
    except SkyfogError as error:
        log.error("%s", error)  # noqa: TRY400  # it names its cause
        return EXIT_FAILED
    return 0


async def _serve(folder: Folder, open_fleet: OpenFleet | None, metrics: str) -> None:
    controller = Controller(folder, open_fleet)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, controller.stop)
    log.info("controller of pool %s: process %d", folder.name, os.getpid())
    with contextlib.ExitStack() as stack:
        if metrics:
            stack.enter_context(serve_metrics(metrics, lambda: controller.document))
        await controller.run()


def run_here(folder: Folder, metrics: str = "") -> int:
    """A controller in the foreground, until its pool is down or Ctrl-C. Returns its exit status."""
    with subprocess.Popen(_command(folder, metrics), env=_environment()) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # the terminal told it too: it ends by itself
                continue


def spawn(folder: Folder, metrics: str = "") -> subprocess.Popen[bytes]:
    """A controller in a session of its own, with its output in the pool's log."""
    command = _command(folder, metrics)
    folder.path.mkdir(parents=True, exist_ok=True)
    try:
        with folder.log.open("ab") as out:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                cwd="/",
                env=_environment(),
            )
    except OSError as error:
        raise ConfigError(f"{folder.log}: {error.strerror or error}") from None


def _command(folder: Folder, metrics: str) -> list[str]:
    module = next(name for name in MODULES if _is_there(name))
    return [sys.executable, "-m", module, folder.name, *(["--metrics", metrics] if metrics else [])]


def _environment() -> dict[str, str]:
    """Ours, without paths that depend on where we are."""
    path = [str(Path(entry).resolve()) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return {**os.environ, STATE_DIR: str(root().parent), "PYTHONPATH": os.pathsep.join(path)}


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


if __name__ == "__main__":
    main()
