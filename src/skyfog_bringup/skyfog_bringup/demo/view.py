"""What the terminal shows while the demo runs, and the table at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from skyfog_bringup.demo.summary import Event, Latency, Phase

PLAIN_EVERY_S = 3.0
# Okabe and Ito's colours, told apart also by the colour-blind; a zone has one here and in the plot.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")


@dataclass(frozen=True, slots=True)
class Zone:
    """A replica's zone as the terminal shows it."""

    name: str
    added_latency_ms: int
    state: str  # "healthy", "killed at 15.0 s" …
    won: int
    won_recently: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the demo is."""

    elapsed_s: float
    seconds: float
    phase: str
    answered: int
    failed: int
    latency: Latency  # of late
    zones: Sequence[Zone]


class View(Protocol):
    """Where progress is shown."""

    def note(self, text: str) -> None:
        """Something that stays: what the demo does, a fault."""
        ...

    def waiting(self, text: str) -> None:
        """What it waits for before the clock starts; called many times a second."""
        ...

    def update(self, progress: Progress) -> None:
        """How far it is; called many times a second."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was found."""
        ...


def milliseconds(value: float | None) -> str:
    """As shown to people."""
    return "-" if value is None else f"{value:.0f}"


class PlainView:
    """Lines, a few seconds apart, for logs and CI."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told_s = 0.0

    def note(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)

    def waiting(self, text: str) -> None:
        """Not told: it takes seconds, and what goes wrong is told by the error."""

    def update(self, progress: Progress) -> None:
        if progress.elapsed_s - self._told_s < PLAIN_EVERY_S:
            return
        self._told_s = progress.elapsed_s
        winner = max(progress.zones, key=lambda zone: zone.won_recently)
        self.note(
            f"{progress.elapsed_s:5.1f} s  {progress.answered} answered, {progress.failed} failed, "
            f"p50 {milliseconds(progress.latency.p50)} ms, p99 {milliseconds(progress.latency.p99)} ms, "
            f"{winner.name if winner.won_recently else 'nobody'} answers ({progress.phase})"
        )

    def close(self) -> None:
        """Nothing was changed."""


class LiveView:
    """A bar, figures of late and each zone, redrawn in place; notes scroll above."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._spinner = Spinner("dots", speed=0.6)
        self._live = Live(console=console, refresh_per_second=8, transient=True)
        self._live.start()

    def note(self, text: str) -> None:
        self._live.console.print(text, highlight=False)

    def waiting(self, text: str) -> None:
        self._spinner.update(text=text)
        self._live.update(self._spinner)

    def update(self, progress: Progress) -> None:
        self._live.update(Padding(Group(*_live_parts(progress)), (1, 0, 0, 0)))

    def close(self) -> None:
        self._live.stop()


def _live_parts(progress: Progress) -> list[RenderableType]:
    head = Table.grid(padding=(0, 2))
    head.add_row(
        ProgressBar(total=progress.seconds, completed=progress.elapsed_s, width=32),
        Text(f"{progress.elapsed_s:.0f} of {progress.seconds:g} s"),
        Text(progress.phase, style="bold"),
    )
    failed = Text(f"{progress.failed} failed", style="bold red" if progress.failed else "green")
    figures = Table.grid(padding=(0, 2))
    figures.add_row(
        Text(f"{progress.answered} answered"),
        failed,
        Text(f"of late: p50 {milliseconds(progress.latency.p50)} ms, p99 {milliseconds(progress.latency.p99)} ms"),
    )
    zones = Table.grid(padding=(0, 2))
    most = max((zone.won_recently for zone in progress.zones), default=0)
    for zone, colour in zip(progress.zones, COLOURS, strict=False):
        wins = most > 0 and zone.won_recently == most
        zones.add_row(
            Text("▶" if wins else " ", style=colour),
            Text(zone.name, style=f"bold {colour}" if wins else colour),
            Text(f"+{zone.added_latency_ms} ms", justify="right"),
            Text(f"{zone.won} won", justify="right"),
            Text(zone.state, style="" if zone.state == "healthy" else "bold red"),
        )
    return [head, figures, zones]


def table(title: str, phases: Sequence[Phase], zones: Sequence[str]) -> Table:
    """The result: a row for each phase, 80 columns wide at most for zones of usual names."""
    made = Table(
        title=title,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        pad_edge=False,
        collapse_padding=True,
    )
    made.add_column("phase", no_wrap=True)
    for name in ("requests", "failed", "p50", "p90", "p99", "max"):
        made.add_column(name, justify="right", no_wrap=True)
    made.add_column("first to answer", no_wrap=True)
    colours = dict(zip(zones, COLOURS, strict=False))
    for phase in phases:
        latency = phase.latency
        made.add_row(
            f"{phase.name}\n[dim]{phase.from_s:.1f} to {phase.to_s:.1f} s[/dim]",
            str(phase.requests),
            Text(str(phase.failed), style="bold red" if phase.failed else "green"),
            *(milliseconds(value) for value in (latency.p50, latency.p90, latency.p99, latency.max)),
            _won(phase, colours),
            style="bold" if phase is phases[-1] else "",
            end_section=len(phases) > 1 and phase is phases[-2],
        )
    return made


def _won(phase: Phase, colours: Mapping[str, str]) -> Text:
    lines = [(f"{phase.won[zone]:>4} {zone}", colour) for zone, colour in colours.items() if phase.won.get(zone)]
    return Text("\n").join(Text(line, style=colour) for line, colour in lines) if lines else Text("   - nobody")


def event_lines(events: Sequence[Event]) -> list[str]:
    """What happened when."""
    return [f"{event.at_s:7.2f} s  {event.text}" for event in events]
