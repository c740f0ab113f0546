"""`skyfog infer profile`: what this machine can do, and how long the stages of a model take on it.

The first is for the policy of models that are larger than memory, the second for the scheduler neo.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skyfog_core.config.inference import EngineConfig
from skyfog_inference import cli_profile_neo
from skyfog_inference.options import Config, Set, configured, of
from skyfog_inference.terminal import console, errors_of


def profile(
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="JSON; sections it has of others stay")] = None,
    folder: Annotated[
        Path, typer.Option(exists=True, file_okay=False, writable=True, help="on the disk that holds the weights")
    ] = Path(),
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="the roofline of this machine, as a PNG")] = None,
    quick: Annotated[bool, typer.Option(help="a few seconds; rates come out somewhat low")] = False,
    model: Annotated[str | None, of(EngineConfig, "model", metavar="MODEL")] = None,
    config: Config = None,
    sets: Set = None,
) -> None:
    """Measure this machine: matrices, memory, disk, and on CUDA the GPU and its link. Best while nothing else runs.

    With --model or --config also the stages of that model, by which the scheduler neo decides.
    """
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from skyfog_core.clock import SteadyClock  # noqa: PLC0415
    from skyfog_inference import profile as measured  # noqa: PLC0415 - torch takes seconds to import
    from skyfog_inference.cost import plot as roofline  # noqa: PLC0415

    with errors_of("profile"):
        terminal = console()
        extent = measured.QUICK if quick else measured.Extent()
        machine, rates = measured.measure(folder, extent, SteadyClock(), terminal.print)
        table = Table("figure", "threads", "value", box=SIMPLE_HEAD)
        for rate in rates:
            table.add_row(rate.name, str(rate.threads or ""), f"{rate.value / 1e9:.1f} G{rate.unit}")
        terminal.print(table)
        for level in (machine.device, machine.host):
            terminal.print(f"{level.name}: {level.memory / 1e9:.1f} GB, {level.bandwidth / 1e9:.2f} GB/s", markup=False)
        if plot is not None:
            roofline.draw(machine, {}, plot)
            terminal.print(f"roofline drawn to {plot}", markup=False)
        sections = measured.document(machine, rates)
        if model is not None or config is not None:
            wanted = configured(config, {"engine.model": model}, sets)
            sections |= cli_profile_neo.stages(wanted.engine, quick, terminal.print)
        if out is not None:
            measured.write(out, sections)
            terminal.print(f"written to {out}", markup=False)
