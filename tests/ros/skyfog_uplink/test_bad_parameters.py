"""A wrong parameter file or option table: one clear line with file and key, exit status 2, nothing hangs."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import yaml

from support.car import SHAPER, TABLE, Car

CLIENT = {"service": "front"}
CASES: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("no table", "allocator", {"table": "/nonexistent/table.yaml"}, ["table: /nonexistent/table.yaml", "No such file"]),
    ("no table", "shaper", {**SHAPER, "table": "/nonexistent/table.yaml"}, ["table: /nonexistent", "No such file"]),
    ("unknown service", "car_client", {"service": "frond"}, ["service: 'frond' is not", "did you mean 'front'"]),
    ("not a number", "allocator", {"allocator": {"risk": math.nan}}, ["allocator.risk"]),
    ("not a number", "shaper", {**SHAPER, "shaper": {"burst_ms": math.nan}}, ["shaper.burst_ms"]),
    ("below its bound", "allocator", {"floor_warn_s": 0.0}, ["floor_warn_s", "greater than 0"]),
    ("unknown key", "allocator", {"allocator": {"perod_ms": 5}}, ["allocator.perod_ms: unknown key", "'period_ms'"]),
    ("no such module", "shaper", {"transport": "no_such:link"}, ["transport: transport 'no_such:link': cannot import"]),
    ("no such factory", "shaper", {"transport": "json:link"}, ["json has no 'link'"]),
    ("no factory", "shaper", {"transport": "json"}, ["not module:factory"]),
    ("unknown way", "car_client", {**CLIENT, "publish": "all"}, ["publish", "'each' or 'best'"]),
    ("no room", "shaper", {**SHAPER, "trace": "/proc/no/trace.jsonl"}, ["trace: /proc/no/trace.jsonl"]),
]


@pytest.mark.parametrize(("node", "values", "expected"), [c[1:] for c in CASES], ids=[f"{c[1]} {c[0]}" for c in CASES])
def test_a_wrong_parameter_is_refused_with_file_and_key(
    car: Car, node: str, values: dict[str, Any], expected: list[str]
) -> None:
    process = car.node(node, ready=False, **values)
    assert process.exit_status() == 2, process.output
    for text in [f"{node}: ", *expected]:
        assert text in process.output
    assert "Traceback" not in process.output


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("a type that no image asks", {"type": "std_srvs/srv/SetBool"}, "a camera can ask skyfog_interfaces/srv/Detect or"),
    ("an option that sends no image", {"codec": "none"}, "its option half sends no image"),
    ("negative bytes", {"bytes": -5}, "services.front.options.0.bytes"),
    ("bytes that are no number", {"bytes": math.nan}, "services.front.options.0.bytes"),
]


@pytest.mark.parametrize(("change", "why"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_table_that_a_camera_cannot_use_is_refused(car: Car, change: dict[str, Any], why: str) -> None:
    table = copy.deepcopy(TABLE)
    front = table["services"]["front"]
    (front if "type" in change else front["options"][0]).update(change)
    car.table.write_text(yaml.safe_dump(table))
    process = car.node("car_client", ready=False, **CLIENT)
    assert process.exit_status() == 2, process.output
    assert why in process.output
    assert "Traceback" not in process.output
