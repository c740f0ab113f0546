"""What came of playing one seed, and how to see it again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from skyfog_sim.check import Broken


@dataclass(frozen=True, slots=True)
class Failure:
    """A seed that breaks an invariant; `command` shows its history."""

    seed: int
    command: str
    why: str

    def __str__(self) -> str:
        return f"{self.command}   # {self.why}"


def verdict(play: Callable[[], None]) -> str:
    """Play a seed. Returns what broke, empty where nothing did."""
    try:
        play()
    except Broken as broken:
        return str(broken)
    except Exception as error:  # noqa: BLE001  # a policy that raises is a finding like any other, at this seed
        return f"raised: {type(error).__name__}: {error}"
    return ""


def as_json(failures: Iterable[Failure]) -> list[dict[str, Any]]:
    """Plain values."""
    return [{"seed": each.seed, "why": each.why, "replay": each.command} for each in failures]
