"""The process: `python -m skyfog_pool.provider.local_cloud FOLDER OPTIONS`, OPTIONS as JSON.

One runs in a folder at a time. It answers HTTP on a Unix socket in it that only its user can reach, lives on when who
started it is gone, and ends when it is told to, on SIGTERM, or when it had neither machines nor calls for `linger_s`.
However it ends, its machines end too: the kernel kills their first processes with it, and where they have no process
identifiers of their own, a keeper that outlives it ends the rest.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TextIO

import structlog

from skyfog_core.config.pool_local import LocalOptions
from skyfog_core.errors import SkyfogError
from skyfog_core.logs import configure_logs
from skyfog_pool import children
from skyfog_pool.provider.local_cloud import LOCK, MACHINES, SOCKET
from skyfog_pool.provider.local_cloud.api import Api
from skyfog_pool.provider.local_cloud.cloud import TICK_S, Cloud
from skyfog_pool.provider.local_cloud.machine import KILL_LIMIT_S, MACHINE
from skyfog_pool.serving import Server

KEEPER = "skyfog_pool.provider.local_cloud.keeper"
log = structlog.get_logger()


def main() -> int:
    """Become a process of init's, and return once the cloud answers.

    Returns the exit status, having said why on standard output: 0 it answers, 1 one is there already, 2 it cannot be.
    """
    folder, options = Path(sys.argv[1]), LocalOptions.model_validate_json(sys.argv[2])
    heard, said = os.pipe()
    if os.fork() == 0:
        os.close(heard)
        os.setsid()
        os.dup2(2, 1)  # who waits for the end of our output waits for our parent only
        with os.fdopen(said, "w") as tell:
            return _run(folder, options, tell)
    os.close(said)
    with os.fdopen(heard) as told:
        status, _, message = told.read().partition(" ")
    sys.stdout.write(message)
    return int(status or 2)


def _run(folder: Path, options: LocalOptions, tell: TextIO) -> int:
    configure_logs("cloud")
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell.write("1 one runs already")
            return 1
        try:
            children.kill(lambda: children.marked(MACHINE, str(folder / MACHINES)), KILL_LIMIT_S)
            cloud = Cloud(options, folder / MACHINES)
        except SkyfogError as error:
            tell.write(f"2 {error}")
            return 2
        asyncio.run(_serve(cloud, folder, tell))
    return 0


async def _serve(cloud: Cloud, folder: Path, tell: TextIO) -> None:
    keeper = _keeper(cloud.folder) if cloud.places.network is None else None
    loop = asyncio.get_running_loop()
    api = Api(cloud)
    server = Server(api.app, _listen(folder / SOCKET))
    tell.write("0 ")
    tell.close()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, api.ended.set)
    serving = loop.create_task(server.run_until_end())
    log.info("cloud", folder=str(folder), home=cloud.places.home, no_namespaces=cloud.places.why_not)
    try:
        await _market(cloud, api)
    finally:
        api.ended.set()
        (folder / SOCKET).unlink(missing_ok=True)
        server.end()
        await cloud.end()
        await asyncio.gather(serving, return_exceptions=True)
        if keeper is not None and keeper.stdin is not None:
            keeper.stdin.close()
            keeper.wait()


async def _market(cloud: Cloud, api: Api) -> None:
    """Until the end. Raises NetworkError where the zones have lost their network: their machines are of no more use."""
    while not api.ended.is_set():
        cloud.places.check()
        cloud.tick()
        api.end_if_idle()
        await asyncio.sleep(TICK_S)


def _listen(path: Path) -> socket.socket:
    """A Unix socket for us alone. The lock is ours, so what stands there is of one that was killed."""
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        bound.bind(str(path))
        bound.listen()  # calls that come before the server looks wait
    finally:
        os.umask(mask)
    return bound


def _keeper(folder: Path) -> subprocess.Popen[bytes]:
    """Ends what is left of plain processes when our end of its pipe closes, in whatever way."""
    return subprocess.Popen([sys.executable, "-m", KEEPER, str(folder)], stdin=subprocess.PIPE, start_new_session=True)


if __name__ == "__main__":
    sys.exit(main())
