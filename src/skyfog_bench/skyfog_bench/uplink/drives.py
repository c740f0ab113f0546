"""The drives of `skyfog bench uplink`: recorded traces, where they are, and generated ones, by option table."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from skyfog_bench.processes import BenchError
from skyfog_core.units import S
from skyfog_sim.uplink_drive import Drive, drawn_scenes
from skyfog_sim.uplink_link import LTE_RTT, read_course
from skyfog_sim.uplink_markov import LIKE_RECORDED, PUBLISHED, MarkovLink
from skyfog_uplink.policy.tables import load_table

FOLDER = "SKYFOG_NET_TRACES"  # environment: where the recorded ones are; else beside the workspace
TABLES = ("turbo", "car")
BUSIEST = "T-Mobile LTE"  # of GENERATED, for us
GENERATED: dict[str, MarkovLink] = {link.name: link for link in (*LIKE_RECORDED.values(), *PUBLISHED)}


@dataclass(frozen=True, slots=True)
class Case:
    """One drive, as another process can build it too."""

    table: str
    trace: str  # a recorded one's name, or a key of GENERATED
    recorded: bool
    seconds: float
    seed: int

    @property
    def name(self) -> str:
        return f"{self.trace}, {self.table}"


def folder() -> Path | None:
    """Where the recorded traces are; None where they are absent."""
    workspace = Path(os.environ.get("SKYFOG_WS", "."))
    found = Path(os.environ.get(FOLDER) or workspace / ".." / "shared" / "traces" / "net")
    return found if all((found / f"{name}.up").is_file() for name in LIKE_RECORDED) else None


def cases(seconds: float, recorded_seconds: float, traces: int, seed: int) -> Iterator[Case]:
    """All of them; `traces` of each kind at most, recorded ones as long as they are, but no longer than asked."""
    root = folder()
    for table in TABLES:
        for trace in list(LIKE_RECORDED)[-traces:] if root is not None else ():
            length = read_course(root / f"{trace}.up").length_ns / S if root is not None else 0.0
            yield Case(table, trace, True, min(length, recorded_seconds), seed)
        for trace in list(GENERATED)[-traces:]:
            yield Case(table, trace, False, seconds, seed)


def hour_cases(seconds: float, seed: int) -> Iterator[Case]:
    """One for each table, for the time that it takes."""
    for table in TABLES:
        yield Case(table, BUSIEST, False, seconds, seed)


@lru_cache(maxsize=2)  # an hour has some 100 MB
def build(case: Case) -> Drive:
    """The drive. Raises BenchError, ConfigError, CourseError."""
    table = load_table(table_file(case.table))
    if case.recorded:
        root = folder()
        if root is None:
            raise BenchError(f"the recorded traces are gone (see {FOLDER})")
        course, model = read_course(root / f"{case.trace}.up"), LTE_RTT
    else:
        link = GENERATED[case.trace]
        course, model = link.draw(case.seconds, case.seed), link.rtt
    length_ns = round(case.seconds * S)
    scenes = drawn_scenes(table, case.seconds, case.seed)
    return Drive(case.name, table, course, model.draw(length_ns, case.seed), case.seconds, case.seed, scenes)


def table_file(name: str) -> Path:
    """A file of the workspace's config/uplink. Raises BenchError."""
    for folder_ in Path(__file__).resolve().parents:
        found = folder_ / "config" / "uplink" / f"{name}.yaml"
        if found.is_file():
            return found
    raise BenchError(f"config/uplink/{name}.yaml is not found above {__file__}")
