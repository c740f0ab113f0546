"""How well something is, for /diagnostics: a level, and words that say why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """As in diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One DiagnosticStatus: what is wrong in words, worst first, and figures."""

    level: Level
    message: str
    values: dict[str, str]


NO_ANSWER = Diagnosis(Level.STALE, "its thread does not answer", {})


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    level: Level
    text: str


def worst(findings: Iterable[Finding], well: str, values: dict[str, str]) -> Diagnosis:
    """All findings in words, worst first, at the level of the worst; `well` where there is none."""
    ordered = sorted(findings, key=lambda finding: -finding.level)
    level = ordered[0].level if ordered else Level.OK
    return Diagnosis(level, "; ".join(finding.text for finding in ordered) or well, values)
