"""`skyfog uplink`: option tables, and what is planned with them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from skyfog_core.errors import ConfigError
from skyfog_uplink import cli_plan
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


@app.command()
def plan(
    file: Annotated[Path, typer.Argument(help="option table")],
    mbps: Annotated[
        str, typer.Option("--mbps", metavar="RATE", help="the link: one number, or its p5,p50,p90 where it varies")
    ] = "10",
    rtt: Annotated[
        str, typer.Option("--rtt", metavar="MS", help="round trip: one number, or its p50,p75,p90,p99")
    ] = "50",
    scene: Annotated[str, typer.Option("--scene", help="of the table; none: by speed")] = "",
    speed: Annotated[float | None, typer.Option("--speed", min=0, help="m/s; none: no scene by speed")] = None,
    json: Annotated[bool, typer.Option("--json", help="the plan as JSON")] = False,
    over_rates: Annotated[bool, typer.Option("--sweep", help="what plans are worth over the link's rate")] = False,
    png: Annotated[Path | None, typer.Option("--png", help="draw the sweep into this file")] = None,
) -> None:
    """What each service would get of a link, and what a better option would need. Status 2 if something is wrong."""
    try:
        read = load_table(file)
        link = cli_plan.link_of(cli_plan.parse_rates(mbps), parse_rtts(rtt))
        speed_mps = math.nan if speed is None else speed
        made = cli_plan.plan_of(read, link, scene, speed_mps)
    except ConfigError as error:
        complain("plan", error)
        raise typer.Exit(EXIT_OPTIONS) from None
    out = console()
    if not (over_rates or png):
        if json:
            typer.echo(cli_plan.plan_json(read, made))
        else:
            out.print(*cli_plan.show_plan(read, made), sep="\n")
        return
    rates, worths = cli_plan.sweep(read, link.rtts_ms, scene, speed_mps)
    out.print(*cli_plan.show_sweep(rates, worths), sep="\n")
    if png is not None:
        cli_plan.draw_sweep(rates, worths, read.name, png)
        out.print(f"drawn into {png}", soft_wrap=True)
