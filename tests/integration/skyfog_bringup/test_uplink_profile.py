"""`skyfog uplink profile` with real models on real photographs: a table that `skyfog uplink table` takes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from skyfog_bringup.images import package_photographs
from skyfog_bringup.uplink_cli import app
from skyfog_uplink.policy.tables import load_table
from support.onnx_models import colour_folder

TELLS_WHEN_IT_MEASURES = """
import sys
from skyfog_bringup import uplink_cli
measure = uplink_cli.measure
def telling(*arguments):
    print("measuring", flush=True)
    return measure(*arguments)
uplink_cli.measure = telling
uplink_cli.app(sys.argv[1:])
"""
QUICK = ("--width", "160", "--width", "0", "--quality", "20", "--quality", "95")


@pytest.fixture(autouse=True)
def _models_of_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYFOG_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("AMENT_PREFIX_PATH", "")


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for photograph in package_photographs()[:3]:
        (folder / photograph.name).write_bytes(photograph.read_bytes())
    return folder


def uplink(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_detection_is_measured_and_the_table_is_taken(tmp_path: Path, photographs: Path) -> None:
    out = tmp_path / "cars.yaml"
    result = uplink("profile", "--out", out, "--images", photographs, "--codec", "jpeg", "--codec", "png", *QUICK,
                    "--service", "front", "--service", "left", "--slo", "60000")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert uplink("table", out).exit_code == 0
    front, left = load_table(out).services
    assert (front.cloud, left.options) == ("/detect", front.options)
    small, *_, large = front.options
    assert large.accuracy == 1.0  # PNG loses nothing; a good JPEG may give the same answer for less
    assert small.name == "jpeg20_160"
    assert small.accuracy < 1.0
    assert small.bytes.mean < large.bytes.mean / 10
    assert (small.codec, small.quality, small.width) == ("jpeg", 20, 160)
    assert all(option.exec_ms.mean > 0 and option.pre_ms.mean > 0 for option in front.options)
    assert (front.floor.model, front.floor.accuracy) == ("none", 0.0)


def test_segmentation_is_measured_with_a_floor(tmp_path: Path, photographs: Path) -> None:
    out = tmp_path / "masks.yaml"
    result = uplink("profile", "--out", out, "--images", photographs, "--model", "deeplab_v3", "--floor", "deeplab_v3",
                    "--codec", "webp", *QUICK, "--frames", "2", "--slo", "60000", "--score", "0.5")  # fmt: skip
    assert result.exit_code == 0, result.output
    (front,) = load_table(out).services
    assert (front.cloud, front.type) == ("/segment", "skyfog_interfaces/srv/Segment")
    assert front.floor.accuracy == 1.0  # the same model on the whole image
    assert 0.0 < front.options[0].accuracy < front.options[-1].accuracy < 1.0
    assert "no better than the car's own model" in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "efficientdet"), "no model 'efficientdet'"),
        (("--floor", "deeplab_v3"), "deeplab_v3: is a model to segment, efficientdet_lite0 to detect"),
        (("--images", "/nowhere"), "/nowhere: no such folder or video"),
        (("--service", "two words"), "--service: services.two words"),
        (("--codec", "gif"), "'gif' is none of jpeg, webp, png, raw"),
    ],
)
def test_what_cannot_be_measured_ends_with_2_and_leaves_nothing(
    tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    result = uplink("profile", "--out", tmp_path / "t.yaml", *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "t.yaml").exists()


def test_a_folder_that_is_not_there_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    result = uplink("profile", "--out", tmp_path / "none" / "t.yaml")
    assert (result.exit_code, "none: is no folder" in result.stderr) == (2, True)


def test_a_model_on_the_car_that_is_too_slow_for_its_slo_is_told(tmp_path: Path, photographs: Path) -> None:
    result = uplink("profile", "--out", tmp_path / "t.yaml", "--images", photographs, "--floor", "efficientdet_lite0",
                    "--frames", "1", "--codec", "raw", "--slo", "1")  # fmt: skip
    assert result.exit_code == 2
    assert "services.front.slo_ms: 1 is less than the" in result.stderr
    assert list(tmp_path.glob("*.yaml")) == []


def test_ctrl_c_ends_it_and_leaves_no_file(tmp_path: Path) -> None:
    model = colour_folder(tmp_path / "colours")
    words = ["profile", "--out", str(tmp_path / "t.yaml"), "--model", f"{model}/", "--frames", "100000", *QUICK]
    words += ["--images", str(_video(tmp_path, frames=2_000))]
    with subprocess.Popen(
        [sys.executable, "-c", TELLS_WHEN_IT_MEASURES, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin", "SKYFOG_MODELS": str(tmp_path)},
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "measuring\n"
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=60)
    assert child.returncode == 130, errors
    assert errors == "skyfog uplink profile: ended by Ctrl-C; nothing was written\n"
    assert not list(tmp_path.glob("*t.yaml*"))


def _video(folder: Path, frames: int) -> Path:
    path = folder / "noise.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    rng = np.random.default_rng(0)
    for _ in range(frames):
        writer.write(rng.integers(0, 255, (48, 64, 3), np.uint8))
    writer.release()
    return path
