"""`skyfog certs fleet|ca|issue|show` and `skyfog zenohd`: the fleet's trust and its routers. Needs no ROS."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from skyfog_core.config.base import parse
from skyfog_core.config.router import ZenohConfig
from skyfog_core.errors import ConfigError
from skyfog_router import zenohd
from skyfog_router.acl import ROLES, Member, common_name
from skyfog_router.certs import CA_DAYS, DAYS, Issued, facts_of, issue, make_ca, stem_of

EXIT_WRONG = 1
EXIT_OPTIONS = 2
WIDTH = 140  # of tables, where no terminal says how wide it is

certs = typer.Typer(
    help="Certificates of a fleet: its CA, one for each process, and what is in them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
router = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

Fleet = Annotated[str, typer.Option("--fleet", help="as in the proxies' parameter `fleet`")]
Folder = Annotated[Path, typer.Option("--dir", metavar="DIR", help="that `skyfog certs ca` made")]
Hosts = Annotated[
    list[str] | None,
    typer.Option("--host", help="name or address by which others dial it, beside its own name; as often as needed"),
]
Days = Annotated[int, typer.Option("--days", min=1, max=36_500, help="until it expires; never after its CA")]
Force = Annotated[bool, typer.Option("--force", help="replace what is there")]


def _console(stderr: bool = False) -> Console:
    console = Console(stderr=stderr, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = WIDTH
    return console


def _refuse(verb: str, error: ConfigError) -> typer.Exit:
    _console(stderr=True).print(f"skyfog {verb}: {error}", markup=False)
    return typer.Exit(EXIT_OPTIONS)


def _tell(made: Issued) -> None:
    _console().print(f"{made.certificate}, {made.key}", markup=False)


@certs.command()
def ca(
    fleet: Fleet,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="for ca.pem, which all need, and ca.key, your secret")
    ],
    days: Days = CA_DAYS,
    force: Force = False,
) -> None:
    """Make the CA of a fleet, once. With its key anyone can join the fleet: keep it off the fleet's machines."""
    try:
        _tell(make_ca(fleet, out, datetime.now(UTC), days, force))
    except ConfigError as error:
        raise _refuse("certs ca", error) from None


@certs.command("issue")
def issue_(
    role: Annotated[str, typer.Argument(metavar="ROLE", help=", ".join(ROLES))],
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="of the machine; one certificate each")],
    folder: Folder,
    service: Annotated[str, typer.Option(help="replica: the one service that it answers, e.g. /detect")] = "",
    host: Hosts = None,
    days: Days = DAYS,
    force: Force = False,
) -> None:
    """Make certificates for processes of one role: ROLE-NAME.pem and .key, replica-SERVICE-NAME.pem and .key."""
    try:
        for name in names:
            _tell(issue(role, name, folder, datetime.now(UTC), service, days, host or (), force))
    except ConfigError as error:
        raise _refuse("certs issue", error) from None


@certs.command("fleet")
def fleet_(
    fleet: Annotated[str, typer.Argument(metavar="FLEET", help="as in the proxies' parameter `fleet`")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="for all files")],
    robot: Annotated[list[str] | None, typer.Option(metavar="NAME")] = None,
    replica: Annotated[list[str] | None, typer.Option(metavar="SERVICE=NAME", help="e.g. /detect=gpu0")] = None,
    router: Annotated[list[str] | None, typer.Option(metavar="NAME")] = None,
    pool: Annotated[list[str] | None, typer.Option(metavar="NAME")] = None,
    car: Annotated[list[str] | None, typer.Option(metavar="NAME")] = None,
    gateway: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="it needs a robot's certificate too")
    ] = None,
    host: Hosts = None,
    days: Days = DAYS,
    force: Force = False,
) -> None:
    """Make the CA and all certificates of a small fleet at once."""
    now = datetime.now(UTC)
    by_role = {"robot": robot, "router": router, "pool": pool, "car": car, "gateway": gateway}
    wanted = [(role, name, "") for role, names in by_role.items() for name in names or ()]
    wanted += [("replica", name, service) for service, _, name in (given.partition("=") for given in replica or ())]
    try:
        for role, name, service in wanted:  # a wrong name leaves nothing half made
            common_name(role, fleet, service)
            stem_of(role, name, service)
        _tell(make_ca(fleet, out, now, CA_DAYS, force))
        for role, name, service in wanted:
            _tell(issue(role, name, out, now, service, days, host or (), force))
    except ConfigError as error:
        raise _refuse("certs fleet", error) from None


@certs.command()
def show(files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="certificates")]) -> None:
    """Role, hosts and expiry. Ends with status 1 where one has expired or will within a month."""
    table = Table("file", "role", "expires (UTC)", "state", box=SIMPLE_HEAD)
    table.add_column("hosts", overflow="fold")
    now, states = datetime.now(UTC), set()
    try:
        for file in files:
            facts = facts_of(file)
            states.add(facts.state(now))
            expires = f"{facts.not_after:%Y-%m-%d %H:%M}"
            table.add_row(str(file), facts.name, expires, facts.state(now), ", ".join(facts.hosts))
    except ConfigError as error:
        raise _refuse("certs show", error) from None
    _console().print(table)
    if states != {"ok"}:
        raise typer.Exit(EXIT_WRONG)


@router.command()
def run(
    listen: Annotated[list[str], typer.Option(help="endpoint, e.g. tls/0.0.0.0:7447 or quic/0.0.0.0:7447")],
    fleet: Fleet = "skyfog",
    service: Annotated[list[str] | None, typer.Option(help="with certificates: what may pass, e.g. /detect")] = None,
    connect: Annotated[list[str] | None, typer.Option(help="other routers, e.g. tls/router-b:7447")] = None,
    ca_file: Annotated[str, typer.Option("--ca", metavar="FILE", help="the fleet's ca.pem")] = "",
    certificate: Annotated[str, typer.Option(metavar="FILE", help="this router's certificate")] = "",
    key: Annotated[str, typer.Option(metavar="FILE", help="its private key")] = "",
    lease_ms: Annotated[int, typer.Option(help="silence after which a peer counts as gone")] = 10_000,
) -> None:
    """Route the fleet's zenoh traffic until SIGTERM or SIGINT.

    --listen, --connect and --service may be given several times. Two routers that are linked make up for each other.
    """
    tls = {"ca": ca_file, "certificate": certificate, "key": key}
    values = {"mode": "router", "listen": listen, "connect": connect or [], "lease_ms": lease_ms, "tls": tls}
    try:
        config = parse(ZenohConfig, values, "options")
        member = Member("router", fleet, tuple(service or ()))
        zenohd.run(config, member, lambda: _console().print(f"ready: {', '.join(listen)}", markup=False))
    except ConfigError as error:
        raise _refuse("zenohd", error) from None
