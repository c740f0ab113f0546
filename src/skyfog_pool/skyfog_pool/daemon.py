"""A pool's controller as a process: one a pool, ended by its pool's end or by a signal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from typing import Annotated

import typer

from skyfog_core.errors import SkyfogError
from skyfog_core.logs import configure_logs
from skyfog_pool.controller import Controller
from skyfog_pool.fleet import OpenFleet
from skyfog_pool.folders import Folder, Held, Lock, folder_of
from skyfog_pool.metrics import serve as serve_metrics

log = logging.getLogger(__name__)
EXIT_HELD = 4
EXIT_FAILED = 3


def main(open_fleet: OpenFleet | None = None) -> None:
    """Run a controller until its pool is down; ends the process."""

    def run(
        pool: Annotated[str, typer.Argument(help="its name")],
        metrics: Annotated[str, typer.Option("--metrics", metavar="HOST:PORT", help="Prometheus metrics there")] = "",
    ) -> None:
        configure_logs("controller")  # its provider's
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


if __name__ == "__main__":
    main()
