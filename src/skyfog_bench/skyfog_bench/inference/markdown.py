"""One Markdown file out of the reports of the inference node's benchmarks that lie in a folder, with their pictures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

PARTS = {
    "inference_offload": "Mixture of experts larger than memory",
    "inference_memory": "Decode and prefill in memory",
    "inference_attention": "Decode attention on the CPU",
    "inference_neo": "NEO on two workers",
    "inference_sim": "NEO simulated on T4, A10G and H100",
}
VERDICTS = {True: "yes", False: "**no**", None: "not known"}


def write(folder: Path) -> Path:
    """Write `inference.md` there out of every report of PARTS that is there; the file's path.

    Raises FileNotFoundError where there is no report.
    """
    found = [(name, folder / f"{name}.json") for name in PARTS if (folder / f"{name}.json").is_file()]
    if not found:
        raise FileNotFoundError(f"{folder}: no report of {', '.join(PARTS)}")
    lines = ["# Inference benchmarks", ""]
    for name, path in found:
        report = json.loads(path.read_text())
        pictures = sorted(other.name for other in folder.glob(f"{name}*.png"))
        lines += part(PARTS[name], report, pictures)
    target = folder / "inference.md"
    target.write_text("\n".join(lines).rstrip() + "\n")
    return target


def part(title: str, report: Mapping[str, Any], pictures: Sequence[str]) -> list[str]:
    """The lines of one report: where it was made, goals, pictures, rows."""
    machine = report["machine"]
    made = (
        f"`skyfog bench {report['name']}`, commit {report['commit']}, seed {report['seed']}; {machine['cpu']}, "
        f"{machine['cores']} cores, {machine['ram_gb']} GB, kernel {machine['kernel']}, Python {machine['python']}, "
        f"load {machine['load_1_min']}."
    )
    lines = [f"## {title}", "", made, ""]
    if report["goals"]:
        lines += _table(("goal", "limit", "value", "spread", "met"), map(_goal, report["goals"]))
    for picture in pictures:
        lines += [f"![{picture}]({picture})", ""]
    for columns, alike in groupby(report["rows"], key=tuple):
        lines += _table(columns, ([row[column] for column in columns] for row in alike))
    return lines


def _goal(goal: Mapping[str, Any]) -> list[Any]:
    met = VERDICTS[goal["met"]] + (f": {goal['why']}" if goal.get("why") else "")
    return [goal["name"], goal["goal"], goal["value"], "-".join(map(_cell, goal.get("spread", []))), met]


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    lines = [_line([column.replace("_", " ") for column in columns]), _line(["---"] * len(columns))]
    return [*lines, *map(_line, rows), ""]


def _line(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(map(_cell, cells)) + " |"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return str(value).replace("|", "\\|")
