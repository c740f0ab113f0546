"""`skyfog uplink` has the verbs of skyfog_uplink and those that join it with other packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from skyfog_bringup.cli import main

TURBO = Path(__file__).parents[3] / "config" / "uplink" / "turbo.yaml"


def test_help_lists_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["uplink", "--help"])
    assert ended.value.code == 0
    assert {"table", "profile"} <= set(capsys.readouterr().out.split())


def test_a_table_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["uplink", "table", str(TURBO), "--rtt", "50"])
    assert ended.value.code == 0
    assert "d2_input_jpeg50" in capsys.readouterr().out
