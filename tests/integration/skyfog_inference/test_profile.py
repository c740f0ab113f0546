from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from skyfog_core.clock import SteadyClock
from skyfog_core.errors import ConfigError
from skyfog_inference import profile
from skyfog_inference.cli import app
from skyfog_inference.cost.hrm import load_machine

TINY = profile.Extent(side=64, memory=1 << 20, disk=1 << 20, repeats=1)


def test_a_profile_is_measured_written_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "QUICK", TINY)
    out = tmp_path / "deep" / "profile.json"
    done = CliRunner().invoke(app, ["profile", "--quick", "--folder", str(tmp_path), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "gemm bfloat16" in done.output
    machine = load_machine(out)
    assert machine.device.flops > 1e6
    assert machine.device.bandwidth > 1e6
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]  # the file that was read is gone


def test_where_there_is_no_gpu_the_host_is_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile.torch.cuda, "is_available", lambda: False)
    machine, rates = profile.measure(tmp_path, TINY, SteadyClock(), lambda _: None)
    assert machine.host.flops == 0
    assert machine.link == machine.host.bandwidth
    assert {rate.threads for rate in rates} >= {0, 1}


def test_sections_of_others_stay(tmp_path: Path) -> None:
    out = tmp_path / "profile.json"
    out.write_text('{"stages": {"layers": 2}, "machine": 1}')
    profile.write(out, {"machine": 2})
    assert json.loads(out.read_text()) == {"stages": {"layers": 2}, "machine": 2}


@pytest.mark.parametrize("text", ["[]", "{"])
def test_what_is_no_profile_is_not_overwritten(tmp_path: Path, text: str) -> None:
    out = tmp_path / "profile.json"
    out.write_text(text)
    with pytest.raises(ConfigError, match=r"profile\.json"):
        profile.write(out, {})
    assert out.read_text() == text


def test_a_folder_that_takes_no_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the disk cannot be measured"):
        profile.measure(tmp_path / "none", TINY, SteadyClock(), lambda _: None)
