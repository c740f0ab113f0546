"""`skyfog infer batch`: a file of requests through a model."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from skyfog_core.config.inference import EngineConfig, InferenceConfig
from skyfog_core.errors import ConfigError
from skyfog_inference.options import Config, Set, configured, of
from skyfog_inference.terminal import EXIT_FAILED, console, errors_of

if TYPE_CHECKING:
    from skyfog_inference.batch.results import Results
    from skyfog_inference.batch.run import Totals
    from skyfog_inference.served import Served

EXIT_INTERRUPTED = 130
AT_ONCE = 2  # times the sequences of a step: so that a next one always waits
SHOWN_PER_S = 5


def batch(
    requests: Annotated[
        Path, typer.Argument(metavar="IN.jsonl", help="a request a line, plain or as OpenAI's batches")
    ],
    answers: Annotated[Path, typer.Argument(metavar="OUT.jsonl", help="an answer a line, in the order they ended")],
    model: Annotated[str | None, of(EngineConfig, "model", metavar="MODEL")] = None,
    config: Config = None,
    threads: Annotated[int | None, of(EngineConfig, "threads")] = None,
    device_kv_mb: Annotated[int | None, of(EngineConfig, "device_kv_mb")] = None,
    sets: Set = None,
) -> None:
    """Answer every request of a file. The same command goes on where a run was ended or killed.

    Ends with status 1 if an answer is an error or cannot be written, 2 if a file or an option is wrong, 130 on Ctrl-C.
    """
    from skyfog_inference.batch import rows  # noqa: PLC0415
    from skyfog_inference.batch.results import Results  # noqa: PLC0415

    with errors_of("batch"):
        options = {"engine.model": model, "engine.threads": threads, "engine.device_kv_mb": device_kv_mb}
        wanted = configured(config, options, sets)
        lines = rows.check(requests)
        if answers.exists() and answers.samefile(requests):
            raise ConfigError(f"{answers}: holds the requests; answers go to a file of their own")
        results = Results(answers)
        try:
            totals = _run(wanted, requests, results, len(lines), len(results.done & lines.keys()))
        finally:
            results.close()
    left = len(lines.keys() - results.done)
    if left:
        console().print(f"{left} of {len(lines)} are left; the same command goes on with them")
        raise typer.Exit(EXIT_INTERRUPTED)
    raise typer.Exit(EXIT_FAILED if totals is not None and totals.failed else 0)


def _run(wanted: InferenceConfig, requests: Path, results: Results, total: int, done: int) -> Totals | None:
    """All that is not answered yet; None where that is nothing. Raises SkyfogError."""
    from skyfog_core import extras  # noqa: PLC0415
    from skyfog_inference import served  # noqa: PLC0415

    out = console()
    if done:
        out.print(f"{done} of {total} are answered already")
    if done == total:
        return None
    extras.need("inference", *served.NEEDS)
    ready = served.load(wanted.engine)
    began_s = time.monotonic()
    try:
        totals = asyncio.run(_through(ready, wanted, requests, results, total, done))
    finally:
        ready.close()
    took_s = time.monotonic() - began_s
    out.print(
        f"{totals.answered} answered, {totals.failed} failed, {totals.tokens} tokens in {took_s:.1f} s: "
        f"{totals.tokens / took_s:.1f} tok/s"
    )
    return totals


async def _through(
    ready: Served, wanted: InferenceConfig, requests: Path, results: Results, total: int, done: int
) -> Totals:
    """The run, with its progress shown, until its end or Ctrl-C."""
    from skyfog_core.clock import SteadyClock  # noqa: PLC0415
    from skyfog_inference.batch import rows, run  # noqa: PLC0415

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    at_once = min(AT_ONCE * wanted.engine.max_sequences, wanted.engine.max_waiting)
    began_s = time.monotonic()
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), refresh_per_second=SHOWN_PER_S) as progress:
        bar = progress.add_task("", total=total, completed=done, rate="")

        def tell(totals: Totals) -> None:
            rate = totals.tokens / max(time.monotonic() - began_s, 1e-9)
            progress.update(bar, completed=done + totals.answered + totals.failed, rate=f"{rate:.0f} tok/s")

        return await run.run(ready, rows.rows(requests, set(results.done)), results, SteadyClock(), at_once, stop, tell)
