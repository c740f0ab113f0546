"""The one form of every report: {"name", "commit", "machine", "seed", "rows", "goals"}."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from skyfog_bench.measure import Figure

GIT_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Goal:
    """A value and its limit, an upper one unless `at_least`. `why` says what is missing where there is no value."""

    name: str
    limit: float
    value: float | None
    unit: str = ""
    spread: tuple[float, float] | None = None
    why: str = ""
    at_least: bool = False

    def __post_init__(self) -> None:
        if (self.value is None) != bool(self.why):
            raise ValueError(f"goal {self.name!r}: either a value or why there is none")

    @property
    def met(self) -> bool | None:
        """Whether the value keeps to the limit; None where there is no value."""
        if self.value is None:
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def as_json(self) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "name": self.name,
            "goal": f"{'>=' if self.at_least else '<='} {_plain(self.limit)}{_unit(self.unit)}",
        }
        entry |= {"value": _rounded(self.value), "met": self.met}
        if self.spread is not None:
            entry["spread"] = [_rounded(v) for v in self.spread]
        if self.why:
            entry["why"] = self.why
        return entry


def at_most(name: str, limit: float, found: Figure) -> Goal:
    """A goal on a measured figure."""
    return Goal(name, limit, found.value, spread=(found.low, found.high))


def at_least(name: str, limit: float, found: Figure) -> Goal:
    """A goal on a measured figure that should be large."""
    return Goal(name, limit, found.value, spread=(found.low, found.high), at_least=True)


@dataclass(slots=True)
class Report:
    """What one benchmark found. Every row is flat, plain values by column; rows that are alike stand together."""

    name: str
    seed: int
    rows: list[Mapping[str, Any]] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "commit": commit(),
            "machine": machine(),
            "seed": self.seed,
            "rows": [{key: _rounded(value) for key, value in row.items()} for row in self.rows],
            "goals": [goal.as_json() for goal in self.goals],
        }


def commit() -> str:
    """The commit of the sources that run, with `+changes` where the tree differs from it; else the version."""
    here = Path(__file__).resolve().parent
    try:
        found = _git(here, "rev-parse", "--short=12", "HEAD")
        return found + ("+changes" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return f"version {_version('skyfog_bench')}"


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "load_1_min": round(os.getloadavg()[0], 1),  # the benchmark's own load included
        "ram_gb": round(pages * page_bytes / 1e9, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "zenoh": _version("eclipse-zenoh"),
    }


def show(report: Mapping[str, Any], console: Console) -> None:
    """The report as tables: rows that share their columns, then goals."""
    head = f"{report['name']}  ({report['commit']}, {report['machine']['cpu']})"
    console.print(head, markup=False, highlight=False)
    rows, goals = report["rows"], report["goals"]
    for columns, alike in groupby(rows, key=tuple):
        console.print(_table(columns, list(alike)))
    verdicts = Table("goal", "limit", "value", "spread", "met", box=SIMPLE_HEAD)
    for goal in goals:
        met = {True: "[green]yes[/]", False: "[red]no[/]", None: f"not known: {goal.get('why', '')}"}[goal["met"]]
        spread = "-".join(_cell(v) for v in goal.get("spread", []))
        verdicts.add_row(goal["name"], goal["goal"], _cell(goal["value"]), spread, met)
    console.print(verdicts)


def _table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for column in columns:
        numeric = all(isinstance(row[column], int | float | None) for row in rows)
        table.add_column(column.replace("_", " "), justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(_cell(row[column]) for column in columns))
    return table


def write(report: Mapping[str, Any], path: Path) -> None:
    """The report as a JSON file; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *words], check=True, capture_output=True, text=True, timeout=GIT_LIMIT_S
    )
    return done.stdout.strip()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _rounded(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value


def _plain(value: float) -> str:
    return f"{value:g}"


def _unit(unit: str) -> str:
    return f" {unit}" if unit else ""


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if isinstance(value, float) else str(value)
