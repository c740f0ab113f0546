"""The `skyfog` command. `ros2 skyfog` has the same verbs."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from annotated_types import Ge, Le
from rich.console import Console

from skyfog_bringup.cli_look import EXIT_FLEET, EXIT_OPTIONS, LOG_WIDTH, Wait, Watch, WithJson, look
from skyfog_core.config.base import parse
from skyfog_core.config.demo import DemoConfig
from skyfog_core.errors import ConfigError, SkyfogError

BOUNDLESS = 1_000_000  # a bound not worth telling before it is passed

app = typer.Typer(
    help="Robots and cars lean on cloud compute as if it never failed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def _option(name: str, metavar: str | None = None) -> Any:
    """An option of `skyfog demo` with help and bounds from its schema."""
    field = DemoConfig.model_fields[name]
    low: Any = next((bound.ge for bound in field.metadata if isinstance(bound, Ge)), None)
    high: Any = next((bound.le for bound in field.metadata if isinstance(bound, Le)), None)

    def within(value: Any) -> Any:
        if low is not None and not low <= value <= high:
            raise typer.BadParameter(f"{value} is not within {low} to {high}")
        return value

    bounds = f"{low}..{high}" if low is not None and high < BOUNDLESS else None
    return typer.Option(f"--{name}", callback=within, metavar=metavar or bounds, help=field.description)


def _default(name: str) -> Any:
    return DemoConfig.model_fields[name].default


@app.command()
def demo(
    seconds: Annotated[float, _option("seconds")] = _default("seconds"),
    rate: Annotated[float, _option("rate")] = _default("rate"),
    replicas: Annotated[int, _option("replicas")] = _default("replicas"),
    image: Annotated[str, _option("image", "DIR|VIDEO")] = _default("image"),
    out: Annotated[str, _option("out", "DIR")] = _default("out"),
    seed: Annotated[int, _option("seed")] = _default("seed"),
) -> None:
    """A camera asks /detect about photographs; replicas in several zones answer; one is killed, one is frozen.

    Ends with status 1 if a request failed, 2 if an option is wrong, 3 if the fleet did not run.
    """
    from skyfog_bringup.demo import run as demo_run  # noqa: PLC0415  # what the other verbs need not import

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = LOG_WIDTH
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        given = {"seconds": seconds, "rate": rate, "replicas": replicas, "image": image, "out": out, "seed": seed}
        status = demo_run.run(parse(DemoConfig, given, "skyfog demo"), console)
    except demo_run.Interrupted as interrupted:
        errors.print(f"skyfog demo: ended by {interrupted}; no process was left behind", markup=False)
        raise typer.Exit(128 + interrupted.number) from None
    except ConfigError as error:
        errors.print(f"skyfog demo: {error}", markup=False)
        raise typer.Exit(EXIT_OPTIONS) from None
    except SkyfogError as error:
        errors.print(f"skyfog demo: {error}", markup=False)
        raise typer.Exit(EXIT_FLEET) from None
    raise typer.Exit(status)


@app.command("pick-place")
def pick_place(
    classes: Annotated[list[str] | None, typer.Option("--class", help="only these; may be repeated")] = None,
    seconds: Annotated[float, typer.Option(min=1, max=36_000, help="give up after this")] = 600.0,
) -> None:
    """Clear the table that `ros2 launch skyfog_bringup tabletop.launch.py` started; status 1 if anything is left."""
    from skyfog_bringup.nodes.pick import pick  # noqa: PLC0415  # imports ROS

    console = Console(highlight=False, soft_wrap=True)
    try:
        result = pick(classes or [], seconds, lambda text: console.print(text, markup=False))
    except SkyfogError as error:
        Console(stderr=True, soft_wrap=True).print(f"skyfog pick-place: {error}", markup=False, highlight=False)
        raise typer.Exit(EXIT_FLEET) from None
    for failure in result.failures:
        console.print(f"  {failure}", markup=False)
    why = f": {result.status.message}" if result.status.message else ""
    console.print(f"{result.placed} placed, {result.left} left, {result.seconds:.0f} s{why}", markup=False)
    raise typer.Exit(0 if result.status.code == result.status.OK else 1)


@app.command()
def status(as_json: WithJson = False, watch: Watch = False, wait: Wait = 5.0) -> None:
    """Services of the robots in this ROS domain: policy, failures, latencies, SLO, extra load, who is not well."""
    look("status", lambda observe, console: observe.status(console, as_json, watch, wait))


@app.command()
def replicas(as_json: WithJson = False, watch: Watch = False, wait: Wait = 5.0) -> None:
    """Replicas as the robots in this ROS domain see them: state and why, load, price, latencies."""
    look("replicas", lambda observe, console: observe.replicas(console, as_json, watch, wait))


@app.command()
def trace(
    file: Annotated[Path, typer.Argument(help="what a robot_proxy wrote, named by its parameter `trace`")],
    request_id: Annotated[str, typer.Option("--id", metavar="HEX", help="the request whose id begins so")] = "",
    slowest: Annotated[int, typer.Option(min=0, max=10_000, help="this many, slowest first")] = 0,
    failed: Annotated[bool, typer.Option("--failed", help="only requests that failed")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="each request as it ends, until Ctrl-C")] = False,
) -> None:
    """Who was asked when and why, who answered, who was withdrawn; and a summary. Without options the newest few."""
    wanted = {"id_prefix": request_id.lower(), "failed_only": failed}
    look("trace", lambda observe, console: observe.trace(console, file, wanted, slowest, follow))


@app.command(context_settings=PASS_ON)
def bench(context: typer.Context) -> None:
    """Experiments beside their peers; `skyfog bench --help` lists them."""
    _pass_on("bench", "skyfog_bench", context.args)


@app.command(context_settings=PASS_ON)
def models(context: typer.Context) -> None:
    """Models of the perception services; `skyfog models --help` lists what can be done with them."""
    _pass_on("models", "skyfog_perception", context.args)


@app.command(context_settings=PASS_ON)
def sim(context: typer.Context) -> None:
    """Simulated fleets under faults, played from seeds; `skyfog sim --help` lists what can be done."""
    _pass_on("sim", "skyfog_sim", context.args)


@app.command(context_settings=PASS_ON)
def pool(context: typer.Context) -> None:
    """Replicas on spot and on-demand machines; `skyfog pool --help` lists what can be done with them."""
    _pass_on("pool", "skyfog_pool", context.args)


@app.command(context_settings=PASS_ON)
def uplink(context: typer.Context) -> None:
    """A car's uplink: option tables and plans; `skyfog uplink --help` lists what can be done with them."""
    _pass_on("uplink", "skyfog_uplink", context.args, module="skyfog_bringup.uplink_cli")


@app.command(context_settings=PASS_ON)
def infer(context: typer.Context) -> None:
    """Language models: serve one, try one; `skyfog infer --help` lists what can be done with them."""
    _pass_on("infer", "skyfog_inference", context.args)


@app.command(context_settings=PASS_ON)
def certs(context: typer.Context) -> None:
    """Certificates of a fleet; `skyfog certs --help` lists what can be done with them."""
    _pass_on("certs", "skyfog_router", context.args, "certs")


@app.command(context_settings=PASS_ON)
def zenohd(context: typer.Context) -> None:
    """A router of the fleet's zenoh network; `skyfog zenohd --help` lists its options."""
    _pass_on("zenohd", "skyfog_router", context.args, "router")


def _pass_on(verb: str, package: str, arguments: list[str], name: str = "app", module: str = "") -> None:
    """Run another package's command, which is imported only now: `name` in its `cli`, or in `module`."""
    try:
        command = getattr(importlib.import_module(module or f"{package}.cli"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        print(f"skyfog {verb}: the package {package} is not installed: colcon build it", file=sys.stderr)  # noqa: T201
        raise typer.Exit(EXIT_OPTIONS) from None
    command(arguments, prog_name=f"skyfog {verb}")


def main(arguments: list[str] | None = None, name: str = "skyfog") -> None:
    """Entry point; ends the process."""
    app(arguments, prog_name=name)
