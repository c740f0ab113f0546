from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from skyfog_core import extras
from skyfog_core.errors import ConfigError


def workspace(folder: Path) -> Path:
    (folder / "tools" / "extras").mkdir(parents=True)
    (folder / "tools" / "extras" / "heavy.txt").write_text("no-such-module\n")
    return folder


def test_what_can_be_imported_is_never_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[object] = []
    monkeypatch.setattr(subprocess, "run", lambda *words, **_: ran.append(words))
    extras.need("heavy", "json", "math")
    assert not ran


def test_outside_a_workspace_the_error_names_what_is_missing_and_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SKYFOG_WS", raising=False)
    with pytest.raises(ConfigError, match=r"^no_such_module: not installed here; in a workspace: \./ws extra heavy$"):
        extras.need("heavy", "json", "no_such_module")


def test_inside_one_the_extra_is_installed_by_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYFOG_WS", str(workspace(tmp_path)))
    ran: list[list[str]] = []

    def install(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        monkeypatch.setattr(extras, "missing", lambda *_: [])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", install)
    extras.need("heavy", "no_such_module")
    assert ran == [[str(tmp_path / "ws"), "extra", "heavy"]]


def test_an_installation_that_fails_says_how_to_mend_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYFOG_WS", str(workspace(tmp_path)))
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1))
    with pytest.raises(ConfigError, match=r"to mend it: \./ws extra heavy"):
        extras.need("heavy", "no_such_module")
