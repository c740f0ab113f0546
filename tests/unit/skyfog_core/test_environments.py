from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

from skyfog_core import environments
from skyfog_core.errors import ConfigError

HERE = Path(__file__).resolve().parents[3]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One with a list for a peer named `heavy`, in which nothing is really installed."""
    (tmp_path / "tools" / "environments").mkdir(parents=True)
    (tmp_path / "tools" / "environments" / "heavy.txt").write_text("heavy==1.0\n")
    monkeypatch.setenv("SKYFOG_WS", str(tmp_path))
    monkeypatch.setattr(venv, "create", lambda folder, **_: folder.mkdir(parents=True))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    return tmp_path


def test_a_peer_is_there_once_all_of_it_is_installed(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: ran.append(command))
    assert environments.python_of("heavy") is None
    folder = environments.install("heavy")
    assert environments.python_of("heavy") == folder / "bin" / "python"
    wanted = ["-r", str(workspace / "tools" / "environments" / "heavy.txt")]
    assert ran == [[*ran[0][:4], "install", "--quiet", "--no-deps", *wanted]]


def test_uv_is_asked_first_and_pip_where_uv_cannot(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workspace / "bin").mkdir()
    (workspace / "bin" / "uv").touch()
    ran: list[str] = []

    def run(command: list[str], **_: object) -> None:
        ran.append(Path(command[0]).name)
        if ran == ["uv"]:
            raise subprocess.CalledProcessError(2, command)

    monkeypatch.setattr(subprocess, "run", run)
    environments.install("heavy")
    assert ran == ["uv", "python"]


def test_uv_is_told_of_the_wheels_that_pip_knows(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", "/a /b")
    monkeypatch.delenv("UV_FIND_LINKS", raising=False)
    told: list[str] = []
    monkeypatch.setattr(subprocess, "run", lambda _command, env, **_: told.append(env["UV_FIND_LINKS"]))
    environments.install("heavy")
    assert told == ["/a,/b"]


def test_an_installation_that_fails_leaves_no_peer(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: object) -> None:
        raise subprocess.TimeoutExpired(command, 600)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(ConfigError, match="heavy could not be installed"):
        environments.install("heavy")
    assert environments.python_of("heavy") is None


def test_an_unknown_peer_is_answered_with_those_there_are(workspace: Path) -> None:
    with pytest.raises(ConfigError, match=r"no peer 'heavi'; did you mean 'heavy'\? \(there are: heavy\)"):
        environments.install("heavi")


def test_outside_a_workspace_the_error_says_how_to_enter_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SKYFOG_WS", raising=False)
    with pytest.raises(ConfigError, match=r"SKYFOG_WS is not set: run this by \./ws run"):
        environments.python_of("heavy")


def test_every_package_of_our_environments_is_pinned() -> None:
    lists = sorted((HERE / "tools" / "environments").glob("*.txt"))
    assert {file.stem for file in lists} >= {"mplib", "ray", "skypilot"}
    for file in lists:
        wanted = [line for line in file.read_text().splitlines() if not line.startswith("#")]
        assert wanted
        assert all("==" in line for line in wanted)
