"""Provider `local`: replicas are processes of this machine, in the zones of a cloud that is a process of it too.

The cloud (local_cloud) is started where none runs, one for a state folder, and lives on when its starter is killed: so
a controller that comes back finds its machines as it would find them on a real cloud.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import httpx
import msgspec

from skyfog_core.config.base import parse
from skyfog_core.config.pool import ServiceSpec
from skyfog_core.config.pool_local import LocalOptions
from skyfog_pool import children, report
from skyfog_pool.policy.market import LaunchFault, NoticeKind, Prices, Zone
from skyfog_pool.provider.base import Instance, LaunchRefused, Misconfigured, Order, Unavailable
from skyfog_pool.provider.local_cloud import LOCK, LOG, SOCKET
from skyfog_pool.provider.local_cloud.cloud import Failure

MODULE = "skyfog_pool.provider.local_cloud"
STATE = "SKYFOG_STATE_DIR"  # folder of the state of all pools
CALL_LIMIT_S = 10.0
START_LIMIT_S = 30.0
POLL_S = 0.05
SOCKET_CHARS = 107  # <linux/un.h>, less the last


def make(spec: ServiceSpec, pool: str) -> LocalProvider:
    """The provider; starts the cloud where none runs. Raises ConfigError, Misconfigured."""
    if spec.file_mounts:
        raise Misconfigured("file_mounts: local ships workdir only; put the files into it")
    options = parse(LocalOptions, spec.provider_options, f"pool {pool}: provider_options")
    allowed = [offer.place for offer in spec.resources.offers]
    return LocalProvider(default_folder(), options, allowed=allowed, workdir=spec.workdir or "")


def default_folder() -> Path:
    """Where the local cloud keeps its socket and its machines."""
    base = os.environ.get(STATE) or Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "skyfog"
    return Path(base) / "local"


class NoCloud(Unavailable):
    """No cloud runs: the call was certainly not heard."""


class LocalProvider:
    """See provider/base.py."""

    name = "local"

    def __init__(
        self,
        folder: Path,
        options: LocalOptions,
        call_limit_s: float = CALL_LIMIT_S,
        *,
        allowed: Sequence[tuple[str, str, str]] = (),
        workdir: str = "",
    ) -> None:
        """`allowed`: cloud, region and zone of machines, each empty where any will do. `workdir`: copied to each.

        Raises Misconfigured where the cloud cannot be started, or runs already with other options.
        """
        self._allowed = allowed or [("", "", "")]
        self._workdir = workdir
        self.cloud = LocalCloud(folder, call_limit_s)
        self._options = options
        try:
            self.cloud.start(options)
        except Misconfigured:
            self.cloud.close()
            raise

    def zones(self) -> list[Zone]:
        found = msgspec.json.decode(self._ask("GET", "/zones"), type=list[Zone])
        allowed = [zone for zone in found if self._allows(zone)]
        if not allowed:
            known = ", ".join(f"local/{zone.region}/{zone.name}" for zone in found)
            raise Misconfigured(f"local: resources allow none of the zones {known}")
        return allowed

    def prices(self) -> Mapping[str, Prices]:
        found = msgspec.json.decode(self._ask("GET", "/prices"), type=dict[str, Prices])
        return {zone.name: found[zone.name] for zone in self.zones()}

    def launch(self, order: Order) -> Instance:
        if self._workdir:
            setup = f"cp -a {shlex.quote(self._workdir)}/. . || exit 1\n{order.environment.get(report.SETUP, '')}"
            order = replace(order, environment={**order.environment, report.SETUP: setup})
        return msgspec.json.decode(self._ask("POST", "/machines", content=msgspec.json.encode(order)), type=Instance)

    def instances(self, pool: str) -> list[Instance]:
        return msgspec.json.decode(self._ask("GET", "/machines", params={"pool": pool}), type=list[Instance])

    def terminate(self, instance: str) -> None:
        self._ask("DELETE", f"/machines/{instance}")

    def logs(self, instance: str, lines: int) -> Iterator[str]:
        yield from msgspec.json.decode(
            self._ask("GET", f"/machines/{instance}/log", params={"lines": str(lines)}), type=list[str]
        )

    def close(self) -> None:
        self.cloud.close()

    def _allows(self, zone: Zone) -> bool:
        has = (zone.cloud, zone.region, zone.name)
        return any(all(want in {"", is_} for want, is_ in zip(place, has, strict=True)) for place in self._allowed)

    def _ask(self, method: str, path: str, **more: Any) -> bytes:
        """One call, of a new cloud where the old one has died: its machines have died with it."""
        try:
            return self.cloud.ask(method, path, **more)
        except NoCloud:
            self.cloud.start(self._options)
            return self.cloud.ask(method, path, **more)


class LocalCloud:
    """The cloud's process from outside: starts it, asks it, and does to it what a real cloud does to its users.

    Calls raise Unavailable where it does not answer, and Misconfigured where what is asked cannot be.
    """

    def __init__(self, folder: Path, call_limit_s: float = CALL_LIMIT_S) -> None:
        """`folder`: of its socket. Raises Misconfigured where its name is too long for one."""
        self.folder = folder.resolve()
        self._call_limit_s = call_limit_s
        path = self.folder / SOCKET
        if len(str(path)) > SOCKET_CHARS:
            raise Misconfigured(f"local: {path} is too long for a socket: set {STATE} to a shorter folder")
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(path)), base_url="http://local", timeout=call_limit_s
        )

    def start(self, options: LocalOptions) -> None:
        """Start it where it does not run. Raises Misconfigured."""
        self.folder.mkdir(parents=True, exist_ok=True)
        until = time.monotonic() + START_LIMIT_S
        while True:
            with contextlib.suppress(Unavailable):
                self._must_be(options)
                return
            if time.monotonic() > until:
                raise Misconfigured(f"local: the cloud did not start within {START_LIMIT_S:.0f} s: see {self._log}")
            if self._is_locked():  # it is starting, or ending
                time.sleep(POLL_S)
            else:
                self._spawn(options, until - time.monotonic())

    def about(self) -> dict[str, Any]:
        """pid, home (address at which machines find what runs here), namespaces, why_not, options, bill_usd."""
        told: dict[str, Any] = msgspec.json.decode(self.ask("GET", "/about"))
        return told

    def preempt(self, zone: str, count: int = 1, notice_s: float | None = None) -> list[str]:
        """The market takes spot machines; `notice_s`: told so long before, None: not at all. Returns which."""
        return msgspec.json.decode(self._do("preempt", zone=zone, count=count, notice_s=notice_s), type=list[str])

    def take(self, machine: str, notice_s: float | None = None) -> None:
        """The market takes one machine."""
        self._do("take", machine=machine, notice_s=notice_s)

    def recommend_rebalance(self, zone: str, count: int = 1) -> list[str]:
        """Machines are told that they are at risk. Returns which."""
        return msgspec.json.decode(self._do("warn", zone=zone, count=count), type=list[str])

    def notice(self, machine: str, kind: NoticeKind, in_s: float | None = None) -> None:
        """A machine is told something that does not come true."""
        self._do("notice", machine=machine, kind=kind, notice_s=in_s)

    def crash(self, machine: str) -> None:
        """A machine ends by itself."""
        self._do("crash", machine=machine)

    def partition(self, zone: str) -> None:
        """Nothing passes between a zone and all others."""
        self._do("partition", zone=zone)

    def heal(self, zone: str) -> None:
        """The end of a partition."""
        self._do("heal", zone=zone)

    def capacity(self, zone: str, count: int) -> None:
        """Spot machines to be had from now on, whatever the trace says; what is beyond is taken."""
        self._do("capacity", zone=zone, count=count)

    def price(self, zone: str, usd: float) -> None:
        """Of a spot machine for an hour, from now on."""
        self._do("price", zone=zone, usd=usd)

    def fail_next(self, failure: Failure, zone: str = "", count: int = 1) -> None:
        """What the next launches in a zone, or in any, come to."""
        self._do("fail", failure=failure, zone=zone, count=count)

    def outage(self, kind: Literal["", "error", "hang"]) -> None:
        """From now on every call of a provider gets an error, or no answer; empty: the end of it."""
        self._do("outage", outage=kind)

    def end(self) -> None:
        """End it with all its machines; no error where none runs. Raises Unavailable where it does not end in time."""
        until = time.monotonic() + START_LIMIT_S
        with contextlib.suppress(Unavailable):
            self._do("end")
        while self._is_locked():
            if time.monotonic() > until:
                raise Unavailable(f"local: the cloud in {self.folder} did not end within {START_LIMIT_S:.0f} s")
            time.sleep(POLL_S)

    def close(self) -> None:
        """Of this client; the cloud goes on."""
        self._http.close()

    def ask(self, method: str, path: str, **more: Any) -> bytes:
        """One call. Raises LaunchRefused too, where a launch is."""
        self._must_listen()
        try:
            answer = self._http.request(method, path, **more)
        except httpx.HTTPError as error:
            raise Unavailable(f"local: the cloud in {self.folder}: {type(error).__name__} {error}") from error
        if answer.is_success:
            return answer.content
        told = _Error()
        with contextlib.suppress(msgspec.MsgspecError):
            told = msgspec.json.decode(answer.content, type=_Error)
        match answer.status_code:
            case 409:
                raise LaunchRefused(told.fault, told.message)
            case 404 | 422:
                raise Misconfigured(told.message)
        raise Unavailable(f"local: {answer.status_code} {told.message}")

    # inside

    def _must_listen(self) -> None:
        """Raises Unavailable. httpx would leave the socket of a failed call open until it is collected."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(self._call_limit_s)
            try:
                probe.connect(str(self.folder / SOCKET))
            except OSError as error:
                raise NoCloud(f"local: no cloud runs in {self.folder}: {error.strerror or error}") from None

    def _do(self, what: str, **fields: Any) -> bytes:
        return self.ask("POST", f"/do/{what}", content=msgspec.json.encode(fields))

    def _must_be(self, options: LocalOptions) -> None:
        """Raises Misconfigured where it runs with other options."""
        runs = self.about()["options"]
        wanted = options.model_dump(mode="json")
        differ = [name for name, value in wanted.items() if runs.get(name) != value]
        if differ:
            raise Misconfigured(
                f"local: a cloud runs in {self.folder} with other {', '.join(differ)}: "
                f"its pools must go first (skyfog pool down), or set {STATE} to another folder"
            )

    def _spawn(self, options: LocalOptions, limit_s: float) -> None:
        """Returns when it answers, or another was faster. Raises Misconfigured that says why it cannot be."""
        with self._log.open("ab") as log:
            try:
                started = subprocess.run(
                    [sys.executable, "-m", MODULE, str(self.folder), options.model_dump_json()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=os.environ | {"PYTHONPATH": children.import_path()},
                    start_new_session=True,
                    timeout=max(1.0, limit_s),
                    check=False,
                    text=True,
                )
            except subprocess.TimeoutExpired:
                return
        if started.returncode not in {0, 1}:
            raise Misconfigured(f"local: {started.stdout or f'the cloud did not start: see {self._log}'}")

    @property
    def _log(self) -> Path:
        return self.folder / LOG

    def _is_locked(self) -> bool:
        """Whether a cloud runs, or is about to end."""
        try:
            with (self.folder / LOCK).open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False


class _Error(msgspec.Struct):
    """Body of an answer that is none."""

    message: str = ""
    fault: LaunchFault = "error"
