"""`skyfog infer` is the command of skyfog_inference."""

from __future__ import annotations

import pytest

from skyfog_bringup.cli import main


def test_help_lists_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["infer", "--help"])
    assert ended.value.code == 0
    assert {"serve", "generate", "batch", "status"} <= set(capsys.readouterr().out.split())
