"""`skyfog uplink`: the verbs of skyfog_uplink, and those that join it with other packages."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.console import Console
from rich.progress import track

from skyfog_bringup.cli_look import Wait, Watch, WithJson, look
from skyfog_core.clock import SteadyClock
from skyfog_core.config.uplink import Codec
from skyfog_core.errors import ConfigError
from skyfog_uplink.cli import EXIT_OPTIONS, app, complain, console
from skyfog_uplink.cli_table import parse_rtts, show
from skyfog_uplink.policy.model import Table
from skyfog_uplink.policy.tables import doubts
from skyfog_uplink.profile import candidates, measure, plain, table_values

__all__ = ["app"]

EXIT_INTERRUPTED = 130
CODECS = [codec for codec in get_args(Codec) if codec != "none"]


def _codecs(given: list[str]) -> list[str]:
    for codec in given:
        if codec not in CODECS:
            raise typer.BadParameter(f"{codec!r} is none of {', '.join(CODECS)}")
    return given


@app.command()
def profile(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="where the table is written")],
    images: Annotated[
        list[str] | None,
        typer.Option("--images", metavar="DIR|VIDEO", help="may be repeated; none: photographs of installed packages"),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="of the cloud; may be repeated, the first is the reference")
    ] = None,
    floor: Annotated[str, typer.Option("--floor", help="model of the car; none: the car has none")] = "",
    codec: Annotated[
        list[str], typer.Option("--codec", callback=_codecs, help=f"may be repeated; of {', '.join(CODECS)}")
    ] = ["jpeg", "webp"],  # noqa: B006  # typer copies it
    quality: Annotated[
        list[int], typer.Option("--quality", min=1, max=100, help="of jpeg and webp; may be repeated")
    ] = [20, 50, 75, 90],  # noqa: B006
    width: Annotated[
        list[int], typer.Option("--width", min=0, max=16_384, help="sent, 0: as captured; may be repeated")
    ] = [0],  # noqa: B006
    service: Annotated[list[str] | None, typer.Option("--service", help="a name; may be repeated, all alike")] = None,
    rate: Annotated[float, typer.Option("--rate", min=0.01, max=1_000, help="frames a second of a service")] = 10.0,
    slo: Annotated[float, typer.Option("--slo", min=1, max=3_600_000, help="ms from capture to answer")] = 500.0,
    target: Annotated[float, typer.Option("--target", min=0.01, max=0.9999, help="share within the SLO")] = 0.99,
    score: Annotated[float, typer.Option("--score", min=0, max=1, help="threshold of the services")] = 0.35,
    frames: Annotated[int, typer.Option("--frames", min=1, max=100_000, help="images at most, over all sources")] = 60,
    most: Annotated[int, typer.Option("--most", min=1, max=100, help="options kept")] = 8,
    cpu_time: Annotated[
        bool, typer.Option("--cpu-time", help="count the CPU's time, not the clock's: on a machine that is busy")
    ] = False,
    threads: Annotated[int, typer.Option("--threads", min=1, max=256, help="of each model")] = 1,
    models_dir: Annotated[
        str, typer.Option("--models-dir", metavar="DIR", help="the user's models, instead of $SKYFOG_MODELS")
    ] = "",
) -> None:
    """Measure an option table: codec x quality x size x model on real images, into a file.

    Accuracy is agreement with the first model's answer about the uncompressed image in full size: for detection F1 over
    all images (a pair: same class, IoU of at least 0.5), for segmentation the mean IoU of the classes seen. Bytes and
    times are quantiles over the images; exec_ms is decoding and the model, here, with nobody else asking.
    """
    from skyfog_bringup import uplink_profile as here  # noqa: PLC0415  # imports onnxruntime; the other verbs need not

    names, title = service or ["front"], plain(out.stem)
    try:
        here.check_before(out, title, names)
        wanted = [*(model or ["efficientdet_lite0"]), *([floor] if floor else [])]
        task, models = here.open_models(wanted, models_dir, threads, score)
        on_car = models.pop() if floor else None
        sample = here.Sample(images or [], frames, seed=0)
        ways = candidates(models, codec, quality, sample.sizes_of(width))
        shown = track(
            sample, "measuring", total=len(sample), console=Console(stderr=True), transient=True, disable=_quiet()
        )
        now_ns = time.process_time_ns if cpu_time else SteadyClock().now_ns
        measured = measure(shown, task, ways, on_car, now_ns)
        taken = "ms of CPU time" if cpu_time else "ms"
        source = f"measured by skyfog uplink profile on {sample}; score {score:g}; {taken} of {here.machine(threads)}"
        keys = {"rate_hz": rate, "slo_ms": slo, "target": target}
        values = table_values(measured, task, most, title, source, names, **keys)
        table = here.checked(values, f"what was measured for {out}")
        here.write(values, out)
    except ConfigError as error:
        complain("profile", error)
        raise typer.Exit(EXIT_OPTIONS) from None
    except KeyboardInterrupt:
        complain("profile", "ended by Ctrl-C; nothing was written")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    _tell(table)
    console().print(f"{out}: {len(table.services[0].options)} options of {len(ways)} measured", markup=False)


def _tell(table: Table) -> None:
    printed = console()
    printed.print(*show(table, parse_rtts("50")), sep="\n")
    for doubt in doubts(table):
        printed.print(f"warning: {doubt}", style="yellow", markup=False, soft_wrap=True)


@app.command()
def status(as_json: WithJson = False, watch: Watch = False, wait: Wait = 5.0) -> None:
    """Cars of this ROS domain: the link, and of each service its option, rate, misses by cause, and time on the floor.

    Ends with status 3 where no car tells its state.
    """
    look("uplink status", lambda observe, console: observe.uplink(console, as_json, watch, wait))


@app.command()
def gateway(
    config: Annotated[Path, typer.Option("--config", metavar="FILE", help="YAML; see skyfog_uplink/doc/the_link.md")],
) -> None:
    """Take cars' frames, ask the fleet's replicas, send the answers back; until SIGTERM or SIGINT. Needs no ROS."""
    from skyfog_bringup import uplink_gateway  # noqa: PLC0415  # imports zenoh; the other verbs need not

    uplink_gateway.run(config)


def _quiet() -> bool:
    return not sys.stderr.isatty()
