"""`skyfog uplink`: option tables. Other verbs are added where they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from skyfog_core.errors import ConfigError
from skyfog_uplink.cli_table import as_json, parse_rtts, show
from skyfog_uplink.policy.tables import doubts, load_table

EXIT_OPTIONS = 2
LOG_WIDTH = 140  # of tables, where no terminal says how wide it is

app = typer.Typer(
    help="A car's thin uplink, shared between its services so that every deadline holds.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _verbs() -> None:
    """Keeps a single verb from becoming the whole command."""


def console() -> Console:
    """Where verbs print."""
    made = Console(highlight=False)
    if not made.is_terminal:
        made.width = LOG_WIDTH
    return made


def complain(verb: str, error: object) -> None:
    """A line of error a line."""
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    for line in str(error).splitlines():
        errors.print(f"skyfog uplink {verb}: {line}", markup=False)


@app.command()
def table(
    file: Annotated[Path, typer.Argument(help="option table")],
    rtt: Annotated[
        str, typer.Option("--rtt", metavar="MS", help="round trip: one number, or its p50,p75,p90,p99")
    ] = "50",
    json: Annotated[bool, typer.Option("--json", help="as JSON; a rate that is never enough is null")] = False,
) -> None:
    """Check an option table: services, options, and what each needs of the link. Status 2 if it is wrong."""
    try:
        read = load_table(file)
        rtts_ms = parse_rtts(rtt)
    except ConfigError as error:
        complain("table", error)
        raise typer.Exit(EXIT_OPTIONS) from None
    if json:
        typer.echo(as_json(read, rtts_ms))
        return
    out = console()
    out.print(*show(read, rtts_ms), sep="\n")
    for doubt in doubts(read):
        out.print(f"warning: {doubt}", style="yellow", markup=False, soft_wrap=True)
