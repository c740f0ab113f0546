"""`skyfog models` on real files: what it lists, what it finds wrong, what it adds."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper
from typer.testing import CliRunner, Result

from skyfog_perception.cli import app
from skyfog_perception.detector import Detector
from support.onnx_models import COLOURS, SIDE, colour_folder, colour_yolo, save

SHARED = Path(__file__).parents[4] / "shared" / "models"


@pytest.fixture(autouse=True)
def user_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for the user's models."""
    monkeypatch.setenv("SKYFOG_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("AMENT_PREFIX_PATH", "")
    return tmp_path / "models"


def models(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def labels_file(tmp_path: Path) -> Path:
    path = tmp_path / "names.txt"
    path.write_text("\n".join(COLOURS) + "\n")
    return path


def test_list_shows_every_model_with_what_its_manifest_says() -> None:
    result = models("list")
    assert result.exit_code == 0
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if "src" in line}
    assert set(rows) == {"deeplab_v3", "efficientdet_lite0", "tabletop"}
    for word in ("segment", "deeplab", "257 x 257 float32", "21", "2.8"):
        assert word in rows["deeplab_v3"]
    for word in ("detect", "efficientdet", "320 x 320 uint8", "80", "4.1"):
        assert word in rows["efficientdet_lite0"]


def test_list_says_which_manifest_is_wrong_and_still_lists_the_others(user_models: Path) -> None:
    colour_folder(user_models / "colours", task="segment")
    result = models("list")
    assert result.exit_code == 1
    assert "efficientdet_lite0" in result.stdout
    assert "colours/manifest.yaml: task: decoder yolov8 is for 'detect', not 'segment'" in result.stderr


def test_verify_runs_each_model_once() -> None:
    result = models("verify", "--all")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "deeplab_v3: ok, sha256 d3d1649b455a" in result.stdout
    assert "efficientdet_lite0: ok, sha256 8eb873c9fe09" in result.stdout
    assert result.stdout.count("one image a run") == 2


def test_verify_says_what_a_model_sees_on_a_picture(tmp_path: Path) -> None:
    from cv2 import imwrite

    folder = colour_folder(tmp_path / "elsewhere")
    picture = tmp_path / "red.png"
    assert imwrite(str(picture), np.full((20, 20, 3), (0, 0, 204), np.uint8))
    result = models("verify", folder, "--image", picture)
    assert result.exit_code == 0
    assert "batches up to 8" in result.stdout
    assert result.stdout.rstrip().endswith("sees red 0.80")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["nix"], "no model 'nix'"),
        (["efficientdet_lite"], "did you mean 'efficientdet_lite0'"),
        (["/no/such"], "/no/such: is no folder"),
        (["efficientdet_lite0", "--image", "/no/such.png"], "/no/such.png: is no picture"),
    ],
)
def test_verify_names_what_is_not_there(words: list[str], part: str) -> None:
    result = models("verify", *words)
    assert result.exit_code == 1
    assert part in result.stderr


def test_verify_needs_a_model_or_all() -> None:
    assert models("verify").exit_code == models("verify", "deeplab_v3", "--all").exit_code == 2


def test_verify_finds_a_changed_file_and_goes_on_with_the_rest(user_models: Path) -> None:
    folder = colour_folder(user_models / "colours")
    with (folder / "colours.onnx").open("ab") as file:
        file.write(b"!")
    result = models("verify", "--all")
    assert result.exit_code == 1
    assert "colours/manifest.yaml: sha256: colours.onnx has " in result.stderr
    assert "efficientdet_lite0: ok" in result.stdout


def test_verify_finds_outputs_that_are_no_numbers(user_models: Path) -> None:
    """A network that divides by zero."""
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])
    output = helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 7, 1])
    nodes = [
        helper.make_node("ReduceMin", ["images"], ["least"], keepdims=1),
        helper.make_node("Squeeze", ["least", "last"], ["one"]),
        helper.make_node("Mul", ["one", "zeros"], ["nothing"]),
        helper.make_node("Div", ["nothing", "zeros"], ["output0"]),
    ]
    folder = colour_folder(user_models / "broken")
    constants = {"last": np.array([3], np.int64), "zeros": np.zeros((1, 7, 1), np.float32)}
    content = save(folder / "colours.onnx", nodes, [image, output], constants).read_bytes()
    manifest = yaml.safe_load((folder / "manifest.yaml").read_text())
    manifest["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    result = models("verify", "broken")
    assert result.exit_code == 1
    assert "broken: output output0: holds values that are no numbers" in result.stderr


def test_add_copies_a_folder_under_its_name_and_no_other_file(tmp_path: Path, user_models: Path) -> None:
    folder = colour_folder(tmp_path / "mine")
    (folder / "README.md").write_text("# Colours\n")
    (folder / "weights.ckpt").write_text("not needed")
    assert models("add", folder).exit_code == 0
    assert sorted(path.name for path in (user_models / "mine").iterdir()) == [
        "README.md",
        "colours.onnx",
        "colours.txt",
        "manifest.yaml",
    ]
    assert [path.name for path in user_models.iterdir()] == ["mine"]
    assert "mine: ok" in models("verify", "mine").stdout


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("efficientdet_lite0", "there is a model efficientdet_lite0 already"),
        ("../up", "a model's name is of letters"),
        (".hidden", "a model's name is of letters"),
    ],
)
def test_add_refuses_names_that_are_taken_or_none(tmp_path: Path, user_models: Path, name: str, part: str) -> None:
    result = models("add", colour_folder(tmp_path / "mine"), "--name", name)
    assert result.exit_code == 1
    assert part in result.stderr
    assert not user_models.exists() or not list(user_models.iterdir())


def test_add_leaves_nothing_of_a_model_that_does_not_work(tmp_path: Path, user_models: Path) -> None:
    folder = colour_folder(tmp_path / "mine")
    (folder / "colours.txt").write_text("red\ngreen\n")
    result = models("add", folder)
    assert result.exit_code == 1
    assert "mine: decoder.output: output0 has shape [None, 7, 1], but 4 for a box and 2 labels" in result.stderr
    assert list(user_models.iterdir()) == []


@pytest.mark.parametrize("batch", [1, "batch"])
def test_add_writes_the_manifest_of_a_bare_yolo_export(tmp_path: Path, user_models: Path, batch: int | str) -> None:
    onnx_file = colour_yolo(tmp_path / "tiny-yolo.onnx", batch)
    result = models("add", onnx_file, "--decoder", "yolov8", "--labels", labels_file(tmp_path))
    assert result.exit_code == 0, result.stderr
    manifest = yaml.safe_load((user_models / "tiny-yolo" / "manifest.yaml").read_text())
    assert manifest["input"] == {
        "name": "images",
        "layout": "nchw",
        "dtype": "float32",
        "height": SIDE,
        "width": SIDE,
        "colors": "rgb",
        "resize": "letterbox",
        "std": [255.0, 255.0, 255.0],
    }
    assert manifest["decoder"] == {"name": "yolov8", "output": "output0"}
    detector = Detector(user_models / "tiny-yolo")
    seen = detector.detect(np.full((SIDE, SIDE, 3), (0, 255, 0), np.uint8)).detections
    assert [(one.class_name, one.score) for one in seen] == [("green", pytest.approx(1.0))]


def test_add_takes_options_for_what_the_file_cannot_say(tmp_path: Path, user_models: Path) -> None:
    words = ("--decoder", "yolov8", "--labels", labels_file(tmp_path), "--name", "other")
    options = ("--colors", "bgr", "--resize", "stretch", "--mean", 1, 2, 3, "--std", 4, 5, 6)
    assert models("add", colour_yolo(tmp_path / "net.onnx"), *words, *options).exit_code == 0
    made = yaml.safe_load((user_models / "other" / "manifest.yaml").read_text())["input"]
    assert (made["colors"], made["resize"]) == ("bgr", "stretch")
    assert (made["mean"], made["std"]) == ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])


@pytest.mark.parametrize(
    ("options", "status", "part"),
    [
        ([], 2, "--decoder and --labels"),
        (["--decoder", "yolo8", "--labels", "LABELS"], 1, "did you mean 'yolov8'"),
        (["--decoder", "rtdetr", "--labels", "LABELS"], 1, "outputs output0 ['batch'"),
        (["--decoder", "deeplab", "--labels", "LABELS"], 1, "not one of 4 axes"),
        (["--decoder", "nanodet", "--labels", "LABELS"], 1, "3 scores and 4 distributions"),
        (["--decoder", "yolov8", "--labels", "/no/labels"], 1, "/no/labels: is no file"),
        (["--decoder", "yolov8", "--labels", "LABELS", "--colors", "grey"], 1, "input.colors"),
        (["--decoder", "yolov8", "--labels", "LABELS", "--height", "0"], 1, "input.height"),
    ],
)
def test_add_says_why_a_bare_file_cannot_be_read(
    tmp_path: Path, user_models: Path, options: list[str], status: int, part: str
) -> None:
    given = [str(labels_file(tmp_path)) if word == "LABELS" else word for word in options]
    result = models("add", colour_yolo(tmp_path / "net.onnx"), *given)
    assert result.exit_code == status
    assert part.replace("'batch'", "None") in result.stderr
    assert not user_models.exists() or list(user_models.iterdir()) == []


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"no network")
    result = models("add", path, "--decoder", "yolov8", "--labels", labels_file(tmp_path))
    assert result.exit_code == 1
    assert "is no ONNX model that runs here" in result.stderr


def test_free_sides_of_the_input_have_to_be_given(tmp_path: Path, user_models: Path) -> None:
    model = onnx.load(str(colour_yolo(tmp_path / "net.onnx")))
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = "side"
    onnx.save(model, str(tmp_path / "net.onnx"))
    words = ("add", tmp_path / "net.onnx", "--decoder", "yolov8", "--labels", labels_file(tmp_path))
    result = models(*words)
    assert result.exit_code == 1
    assert "its height is free: give --height" in result.stderr
    assert models(*words, "--height", 64, "--width", 96).exit_code == 0
    assert Detector(user_models / "net").detect(np.zeros((9, 9, 3), np.uint8)).detections == ()


def test_the_nanodet_of_another_package_is_added_by_its_shapes(tmp_path: Path, user_models: Path) -> None:
    source, labels = SHARED / "nanodet_g_coco80_fp32.onnx", SHARED / "coco.names"
    if not source.is_file():
        pytest.skip(f"../shared/models/{source.name} is not there")
    result = models("add", source, "--decoder", "nanodet", "--labels", labels, "--name", "nanodet_g")
    assert result.exit_code == 0, result.stderr
    manifest = yaml.safe_load((user_models / "nanodet_g" / "manifest.yaml").read_text())
    assert (manifest["decoder"]["strides"], manifest["decoder"]["bins"]) == ([8, 16, 32], 11)
