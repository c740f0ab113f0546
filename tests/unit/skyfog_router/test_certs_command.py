"""`skyfog certs` as a user types it, and the options of `skyfog zenohd` that end it at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from skyfog_bringup.cli import app


def skyfog(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_fleet_is_made_in_one_command_or_step_by_step(tmp_path: Path) -> None:
    whole, steps = tmp_path / "whole", tmp_path / "steps"
    members = ("--robot", "r1", "--robot", "r2", "--replica", "/arm/detect=gpu0", "--router", "east", "--pool", "p")
    members += ("--car", "c", "--gateway", "g")
    made = skyfog("certs", "fleet", "f", "--out", whole, *members, "--host", "10.0.0.5")
    assert made.exit_code == 0, made.output
    assert skyfog("certs", "ca", "--fleet", "f", "--out", steps).exit_code == 0
    for words in (
        ("robot", "r1", "r2"),
        ("replica", "gpu0", "--service", "/arm/detect"),
        ("router", "east"),
        ("pool", "p"),
        ("car", "c"),
        ("gateway", "g"),
    ):
        made = skyfog("certs", "issue", *words, "--dir", steps, "--host", "10.0.0.5")
        assert made.exit_code == 0, made.output
    assert names(whole) == names(steps)
    assert "replica-arm.detect-gpu0.key" in names(whole)


def test_show_tells_role_hosts_and_expiry_and_its_status_whether_to_act(tmp_path: Path) -> None:
    skyfog("certs", "fleet", "f", "--out", tmp_path, "--robot", "r", "--host", "10.0.0.5")
    shown = skyfog("certs", "show", tmp_path / "ca.pem", tmp_path / "robot-r.pem")
    assert shown.exit_code == 0
    for word in ("robot/f", "ca/f", "10.0.0.5", "ok"):
        assert word in shown.output
    skyfog("certs", "issue", "robot", "r", "--dir", tmp_path, "--days", 20, "--force")
    shown = skyfog("certs", "show", tmp_path / "ca.pem", tmp_path / "robot-r.pem")
    assert shown.exit_code == 1
    assert "expires soon" in shown.output


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("certs", "issue", "robot", "r", "--dir", "."), "skyfog certs issue: ca ca.pem: No such file"),
        (("certs", "show", "nothing.pem"), "skyfog certs show: nothing.pem: No such file"),
        (("certs", "ca", "--fleet", "a/b", "--out", "x"), "skyfog certs ca: fleet 'a/b'"),
        (("certs", "fleet", "f", "--out", "x", "--replica", "/detect"), "skyfog certs fleet: name ''"),
        (("certs", "issue", "robot", "r", "--dir", ".", "--days", "0"), "--days"),
        (("zenohd", "--listen", "tls/127.0.0.1:1"), "skyfog zenohd: tls/127.0.0.1:1: needs tls.ca"),
        (
            ("zenohd", "--listen", "tls/127.0.0.1:1", "--ca", "x"),
            "skyfog zenohd: options: tls: ca, certificate and key",
        ),
        (("zenohd", "--listen", "tcp/127.0.0.1:1", "--lease-ms", "1"), "skyfog zenohd: options: lease_ms"),
        (("zenohd",), "--listen"),
    ],
)
def test_what_is_wrong_is_named_with_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    told = skyfog(*words)
    assert told.exit_code == 2
    assert why in told.output
    assert not any(tmp_path.iterdir()), "nothing is left half made"


def test_nothing_is_replaced_without_force(tmp_path: Path) -> None:
    skyfog("certs", "fleet", "f", "--out", tmp_path, "--robot", "r")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    again = skyfog("certs", "fleet", "f", "--out", tmp_path, "--robot", "r")
    assert again.exit_code == 2
    assert "--force" in again.output
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
