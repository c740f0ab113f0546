"""Options of `skyfog`: what is wrong is named, with what is allowed, and ends with status 2."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from skyfog_bringup.cli import app
from skyfog_bringup.demo.run import prepare
from skyfog_core.config.demo import DemoConfig


def skyfog(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    return result.exit_code, re.sub(r"[\s│]+", " ", result.output)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--seconds", "5"), "'--seconds': 5.0 is not within 6 to 3600"),
        (("--seconds", "nan"), "'--seconds': nan is not within 6 to 3600"),
        (("--seconds", "long"), "'--seconds'"),
        (("--rate", "0"), "'--rate': 0.0 is not within 0.5 to 30"),
        (("--rate", "31"), "'--rate': 31.0 is not within 0.5 to 30"),
        (("--replicas", "0"), "'--replicas': 0 is not within 1 to 6"),
        (("--replicas", "7"), "'--replicas': 7 is not within 1 to 6"),
        (("--seed", "-1"), "'--seed': -1 is not within 0 to 2147483647"),
        (("--speed", "1"), "No such option: --speed"),
        (("--image", "/nowhere"), "--image /nowhere: no such folder or video"),
        (("--out", "/proc/nowhere"), "--out /proc/nowhere: "),
        (("--out", ""), "out: string should have at least 1 character"),
    ],
)
def test_a_wrong_option_is_named_with_what_is_allowed(words: tuple[str, ...], problem: str) -> None:
    status, output = skyfog("demo", *words)
    assert problem in output
    assert status == 2


def test_help_gives_the_bounds_of_the_schema() -> None:
    status, output = skyfog("demo", "--help")
    assert status == 0
    assert "6..3600" in output
    assert str(DemoConfig().seconds) in output


@pytest.mark.parametrize(
    ("verb", "package"), [("bench", "skyfog_bench"), ("models", "skyfog_perception"), ("sim", "skyfog_sim")]
)
def test_a_verb_says_when_its_package_is_not_installed(
    verb: str, package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, f"{package}.cli", None)
    monkeypatch.setitem(sys.modules, package, None)
    status, output = skyfog(verb, "list")
    assert status == 2
    assert f"{package} is not installed" in output + capsys.readouterr().err


def test_models_are_listed_by_the_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYFOG_MODELS", "/nowhere")
    status, output = skyfog("models", "list")
    assert status == 0
    assert "efficientdet_lite0" in output


def test_results_of_an_earlier_run_are_removed_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "demo_out"
    (out / "log").mkdir(parents=True)
    for name in ("result.json", "annotated_cat.jpg", "log/launch.log", "mine.txt"):
        (out / name).touch()
    prepare(out)
    assert sorted(path.name for path in out.rglob("*")) == ["log", "mine.txt"]
