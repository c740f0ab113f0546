"""One machine of the local cloud: its folder, its processes, its metadata service, and how it ends.

Where zones are namespaces, a machine has process identifiers, mounts and shared memory of its own: when its first
process dies, the kernel kills all others and takes back what they had. Where they are not, it is a plain process, and
what it started is known by a variable of its environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil

from skyfog_core.ports import claim_domain, release_domain
from skyfog_pool import children, report
from skyfog_pool.notices import Written
from skyfog_pool.policy.market import NoticeKind
from skyfog_pool.provider.base import Ending, Instance, Order, Phase
from skyfog_pool.provider.local_cloud.metadata import About, Metadata
from skyfog_pool.provider.local_cloud.place import Place
from skyfog_pool.serving import Server

RUNNER = "skyfog_pool.runner"
MACHINE = "SKYFOG_LOCAL_MACHINE"  # its folder, in the environment of all that was started on it
# In an endpoint: what controller and robots call themselves, and a machine in a zone of its own must not.
LOOPBACK = re.compile(r"/(127\.0\.0\.1|localhost):")
HOME = "SKYFOG_HOME"  # the address at which machines find robots and controller
GRACE_S = 10.0  # where the order names none
GRACE_MARGIN_S = 2.0  # for the runner to end what it started
KILL_LIMIT_S = 5.0
SHM_BYTES = 1 << 30
# Shared memory of its own; PID 1 is what comes after.
_BOOT = f'mount -t tmpfs -o size={SHM_BYTES},mode=1777 tmpfs /dev/shm && exec "$@"'
_OWN = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--", "sh", "-c", _BOOT, "sh"]


class Machine:
    """From the launch to the end. All in the cloud's event loop."""

    def __init__(
        self, order: Order, folder: Path, place: Place, price: float, on_gone: Callable[[Machine], None]
    ) -> None:
        self.id = f"i-{secrets.token_hex(6)}"  # a later cloud must not give the same
        self.order = order
        self.phase = Phase.PENDING
        self.ending = Ending.NONE
        self.price_per_hour = price
        self.launched_unix_s = time.time()
        self.cost_usd = 0.0
        self.about = About(self.id, order.zone, place.region, order.market)
        self.folder = folder / self.id
        self._place = place
        self._on_gone = on_gone
        self._endpoint = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._metadata: Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._domain: int | None = None
        self._timers: list[asyncio.TimerHandle] = []

    @property
    def instance(self) -> Instance:
        """As the provider tells it."""
        order, notice = self.order, self.about.notice
        return Instance(
            self.id,
            order.pool,
            order.replica,
            order.version,
            order.token,
            order.zone,
            order.market,
            self.phase,
            self.ending,
            self._endpoint,
            self.launched_unix_s,
            self.price_per_hour,
            None if notice is None else notice.kind,
            None if notice is None else notice.unix_s,
        )

    @property
    def lives(self) -> bool:
        return self.phase is not Phase.GONE

    @property
    def is_doomed(self) -> bool:
        """The market has said that it takes it, or has."""
        notice = self.about.notice
        return self.ending is not Ending.NONE or (notice is not None and notice.kind == "interruption")

    @property
    def log(self) -> Path:
        return self.folder / "log"

    # life

    def boot(self) -> None:
        """Start its runner. Raises OSError where this machine cannot."""
        self.folder.mkdir(parents=True)
        bound = self._place.listen()
        self._metadata = Server(Metadata(self.about).app, bound)
        self._serving = asyncio.get_running_loop().create_task(self._metadata.run_until_end())
        port, service_port = self._place.free_ports(2)
        self._endpoint = f"http://{self._place.address}:{port}"
        environment = self._environment(f"http://127.0.0.1:{bound.getsockname()[1]}", port, service_port)
        # Where the kernel cannot end all of it with us, the keeper does, which must see its shared memory first.
        own = [*children.ENDS_WITH_US, *self._place.inside, *_OWN] if self._place.inside else []
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*own, sys.executable, "-m", RUNNER],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self.folder,
                start_new_session=True,
            )
        children.on_exit(self._process, self._exited)
        self.phase = Phase.RUNNING

    def _environment(self, metadata_url: str, port: int, service_port: int) -> dict[str, str]:
        environment = os.environ | {"PYTHONUNBUFFERED": "1"} | dict(self.order.environment)
        environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        environment["ROS_LOG_DIR"] = str(self.folder / "ros")
        if "ROS_DOMAIN_ID" not in self.order.environment:
            # Machines of one zone share its network, and without namespaces all do: none is to meet another by DDS.
            self._domain = claim_domain()
            environment["ROS_DOMAIN_ID"] = str(self._domain)
        return environment | {
            "PYTHONPATH": children.import_path(),
            MACHINE: str(self.folder),
            HOME: self._place.home,
            report.CONNECT: LOOPBACK.sub(f"/{self._place.home}:", environment.get(report.CONNECT, "")),
            report.RUNNER_LISTEN: f"{self._place.address}:{port}",
            report.SERVICE_PORT: str(service_port),
            report.NOTICE_SOURCE: self._place.notice_source,
            report.NOTICE_FILE: str(self.folder / "notice"),
            report.METADATA_URL: metadata_url,
        }

    def give_notice(self, kind: NoticeKind, in_s: float | None) -> None:
        """Tell it by file and metadata service."""
        notice = Written(kind, None if in_s is None else time.time() + in_s)
        self.about.notice = notice
        if self.folder.exists():
            fresh = self.folder / "notice.new"
            fresh.write_bytes(msgspec.json.encode(notice))
            fresh.rename(self.folder / "notice")

    def stop(self, why: Ending, grace_s: float | None = None) -> None:
        """SIGTERM, and SIGKILL after `grace_s`; None: as the order says."""
        if not self._leave(why):
            return
        if self._process is None:
            self._gone()
            return
        if grace_s is None:
            grace_s = grace_of(self.order) + GRACE_MARGIN_S
        if not self._terminate():
            self._kill()  # it has not begun with anything that could be finished
            return
        self.later(grace_s, self._kill)

    def kill(self, why: Ending) -> None:
        """At once."""
        if self._leave(why):
            self._kill()

    def later(self, after_s: float, call: Callable[[], None]) -> None:
        """Unless it is gone by then."""
        self._timers.append(asyncio.get_running_loop().call_later(after_s, call))

    async def closed(self) -> None:
        """Once its metadata service has ended too."""
        if self._serving is not None:
            await asyncio.wait([self._serving])

    # inside

    def _leave(self, why: Ending) -> bool:
        """Whether it has still to be ended: once SIGTERM was sent only what is harder counts."""
        if self.phase is Phase.GONE:
            return False
        if self.ending is Ending.NONE:
            self.ending = why
        self.phase = Phase.STOPPING
        return True

    def _terminate(self) -> bool:
        """SIGTERM to the runner. Returns whether it listens for that yet: before it starts anything it does."""
        with contextlib.suppress(psutil.Error, OSError):
            runner = self._runner()
            fields = dict(line.split(":", 1) for line in Path(f"/proc/{runner.pid}/status").read_text().splitlines())
            if int(fields["SigCgt"], 16) >> (signal.SIGTERM - 1) & 1:
                runner.terminate()
                return True
        return False

    def _runner(self) -> psutil.Process:
        """Its first process, below `unshare` where it has process identifiers of its own."""
        assert self._process is not None
        process = psutil.Process(self._process.pid)
        below = process.children() if self._place.inside else []
        return below[0] if below else process

    def _kill(self) -> None:
        if self._process is None:
            self._gone()
            return
        if not self._place.inside:
            self._kill_marked()
        children.signal_group(self._process, signal.SIGKILL)
        with contextlib.suppress(psutil.Error):
            self._runner().kill()

    def _exited(self, _status: int) -> None:
        if not self._place.inside:
            self._kill_marked()
        self._gone()

    def _kill_marked(self) -> None:
        children.kill(lambda: children.marked(MACHINE, str(self.folder)), KILL_LIMIT_S)

    def _gone(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self.phase = Phase.GONE
        if self.ending is Ending.NONE:
            self.ending = Ending.FAILED
        if self._metadata is not None:
            self._metadata.end()
        if self._domain is not None:
            release_domain(self._domain)
        self._on_gone(self)

    def failed(self, why: str) -> None:
        """It could not be started."""
        if self.folder.exists():
            self.log.write_text(f"{why}\n")
        self._gone()

    def forget(self) -> None:
        """Remove its folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def grace_of(order: Order) -> float:
    """Seconds that its runner takes to end. Raises ValueError."""
    return float(order.environment.get(report.GRACE_S) or GRACE_S)


def read_tail(path: Path, lines: int) -> list[str]:
    """The newest lines of a file, of its last megabyte at most; none where there is no file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - (1 << 20)))
            return file.read().decode(errors="replace").splitlines()[-lines:] if lines > 0 else []
    except OSError:
        return []
