"""`skyfog infer batch`: a file of requests through a model."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from skyfog_core.config.inference import EngineConfig, InferenceConfig
from skyfog_core.errors import ConfigError
from skyfog_inference.options import Config, Set, configured, of
from skyfog_inference.terminal import EXIT_FAILED, console, errors_of

if TYPE_CHECKING:
    from rich.console import Console

    from skyfog_inference.batch.results import Results
    from skyfog_inference.batch.rows import Row
    from skyfog_inference.batch.run import Totals
    from skyfog_inference.served import Served

EXIT_INTERRUPTED = 130
SAMPLED = 64  # rows whose lengths are looked at
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
    offload_mb: Annotated[
        int | None,
        typer.Option("--offload", metavar="MB", min=1, help="a packed model's weights come from disk, in this memory"),
    ] = None,
    order: Annotated[str | None, of(EngineConfig, "order", metavar="S1|S2|S3|S4")] = None,
    profile: Annotated[str | None, of(EngineConfig, "profile", metavar="FILE")] = None,
    sets: Set = None,
) -> None:
    """Answer every request of a file. The same command goes on where a run was ended or killed.

    Ends with status 1 if an answer is an error or cannot be written, or there is none by a fault of ours, 2 if a file
    or an option is wrong, 130 on Ctrl-C.
    """
    from skyfog_core.logs import configure_logs  # noqa: PLC0415  # what other verbs need not import
    from skyfog_inference.batch import rows  # noqa: PLC0415
    from skyfog_inference.batch.results import Results  # noqa: PLC0415

    configure_logs("infer")
    with errors_of("batch"):
        if order is not None and offload_mb is None:
            raise ConfigError("--order: is of weights that are streamed: give --offload too")
        options = {
            "engine.model": model,
            "engine.threads": threads,
            "engine.device_kv_mb": device_kv_mb,
            "engine.order": None if order is None else order.upper(),
            "engine.profile": profile,
        }
        wanted = configured(config, options, sets)
        lines = rows.check(requests)
        if answers.exists() and answers.samefile(requests):
            raise ConfigError(f"{answers}: holds the requests; answers go to a file of their own")
        results = Results(answers)
        try:
            todo = Todo(requests, results, len(lines), len(results.done & lines.keys()))
            totals = _run(wanted, todo, offload_mb)
        finally:
            results.close()
    left = len(lines.keys() - results.done)
    if left:
        console().print(f"{left} of {len(lines)} are left; the same command goes on with them")
        raise typer.Exit(EXIT_FAILED if totals is not None and totals.left == left else EXIT_INTERRUPTED)
    raise typer.Exit(EXIT_FAILED if totals is not None and totals.failed else 0)


@dataclass(frozen=True, slots=True)
class Todo:
    """What a run has before it."""

    requests: Path
    results: Results
    total: int
    done: int

    def rows(self) -> Iterator[Row]:
        """Those that are not answered."""
        from skyfog_inference.batch import rows  # noqa: PLC0415

        return rows.rows(self.requests, set(self.results.done))


def _run(wanted: InferenceConfig, todo: Todo, offload_mb: int | None) -> Totals | None:
    """All that is not answered yet; None where that is nothing. Raises SkyfogError."""
    from skyfog_core import extras  # noqa: PLC0415
    from skyfog_inference import served  # noqa: PLC0415

    out = console()
    if todo.done:
        out.print(f"{todo.done} of {todo.total} are answered already")
    if todo.done == todo.total:
        return None
    extras.need("inference", *served.NEEDS)
    measured: Callable[[], str] | None = None
    if offload_mb is None:
        ready = served.load(wanted.engine)
    else:
        ready, measured = _offloaded(wanted.engine, todo, offload_mb, out)
    began_s = time.monotonic()
    try:
        totals = asyncio.run(_through(ready, wanted.engine, todo))
    finally:
        ready.close()
    took_s = time.monotonic() - began_s
    out.print(
        f"{totals.answered} answered, {totals.failed} failed, {totals.tokens} tokens in {took_s:.1f} s: "
        f"{totals.tokens / took_s:.1f} tok/s"
    )
    if totals.left:
        out.print(f"{totals.left} failed twice by no fault of theirs: {totals.fault}", markup=False)
    if measured is not None:
        out.print(measured())
    return totals


def _offloaded(config: EngineConfig, todo: Todo, memory_mb: int, out: Console) -> tuple[Served, Callable[[], str]]:
    """A model that is streamed, and what to say of it in the end. Raises ConfigError."""
    from skyfog_inference import assembly_offload  # noqa: PLC0415
    from skyfog_inference.batch.run import lengths  # noqa: PLC0415
    from skyfog_inference.placement.policy import Workload  # noqa: PLC0415

    tokenizer = assembly_offload.tokenizer_of(config)
    context = assembly_offload.context_of(config)
    prompt, answer = lengths(itertools.islice(todo.rows(), SAMPLED), tokenizer, context)
    out.print(f"on the average {prompt:.0f} tokens of a prompt and {answer:.0f} of an answer")
    work, requests = Workload(prompt, answer), todo.total - todo.done
    ready, made = assembly_offload.serve(config, tokenizer, memory_mb, work, requests, out.print)
    return ready, made.measured


async def _through(ready: Served, config: EngineConfig, todo: Todo) -> Totals:
    """The run, with its progress shown, until its end or Ctrl-C."""
    from skyfog_core.clock import SteadyClock  # noqa: PLC0415
    from skyfog_inference.batch import run  # noqa: PLC0415

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    at_once = config.max_waiting  # so that a next one waits whatever a step holds
    began_s = time.monotonic()
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), refresh_per_second=SHOWN_PER_S) as progress:
        bar = progress.add_task("", total=todo.total, completed=todo.done, rate="")

        def tell(totals: Totals) -> None:
            rate = totals.tokens / max(time.monotonic() - began_s, 1e-9)
            progress.update(bar, completed=todo.done + totals.answered + totals.failed, rate=f"{rate:.0f} tok/s")

        return await run.run(ready, todo.rows(), todo.results, SteadyClock(), at_once, stop, tell)
