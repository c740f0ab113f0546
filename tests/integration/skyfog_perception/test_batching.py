"""Batches on a real session: a small network whose batch axis is free, and several threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skyfog_core import budget, cancel
from skyfog_core.cancel import Cancellation
from skyfog_core.clock import ManualClock
from skyfog_core.errors import ConfigError, NotExecuted, Overloaded
from skyfog_perception import network
from skyfog_perception.batch import Batcher, Item, Outputs, Tensor
from skyfog_perception.detector import DetectionResult, Detector
from skyfog_perception.session import Session
from support.onnx_models import COLOURS, SIDE, colour_folder
from support.processes import LIMIT_S, wait_until

THREADS = 6


@pytest.fixture
def detector(tmp_path: Path) -> Detector:
    return Detector(colour_folder(tmp_path / "colours"))


def plain(red: int, green: int, blue: int) -> np.ndarray:
    return np.full((48, 64, 3), (red, green, blue), np.uint8)


IMAGES = [plain(250 - 30 * i, 40 * i, 10) for i in range(THREADS)]


class Gate:
    """Stands before a function: holds the first call until it is opened, and notes the length of each batch."""

    def __init__(self, behind: Callable[..., Any]) -> None:
        self._behind = behind
        self._open = threading.Event()
        self.entered = threading.Event()
        self.lengths: list[int] = []

    def __call__(self, tensor: Tensor, *more: Any) -> Outputs:
        self.lengths.append(len(tensor))
        self.entered.set()
        assert self._open.wait(LIMIT_S)
        return self._behind(tensor, *more)

    def open(self) -> None:
        self._open.set()


def found(result: DetectionResult) -> list[tuple[Any, ...]]:
    return [(one.class_name, pytest.approx(one.score, abs=1e-6), one.left, one.top) for one in result.detections]


def test_the_toy_network_knows_its_colours(detector: Detector) -> None:
    one = detector.detect(plain(0, 204, 51), 0.1).detections
    assert [(seen.class_name, round(seen.score, 3)) for seen in one] == [("green", 0.8)]
    # BOX, from an input of 32 x 32 to an image 48 high and 64 wide
    assert (one[0].left, one[0].top, one[0].right, one[0].bottom) == (24.0, 0.0, 40.0, 24.0)
    assert detector.network.class_names == COLOURS


def test_those_that_wait_together_run_as_one_and_get_what_they_would_alone(
    detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [detector.detect(image, 0.0) for image in IMAGES]
    gate = Gate(detector.network._session.run)
    monkeypatch.setattr(detector.network._session, "run", gate)
    batcher = detector.network._batcher
    assert batcher is not None
    with ThreadPoolExecutor(THREADS) as pool:
        first = pool.submit(detector.detect, IMAGES[0], 0.0)
        assert gate.entered.wait(LIMIT_S)
        others = [pool.submit(detector.detect, image, 0.0) for image in IMAGES[1:]]
        wait_until("the others wait", lambda: len(batcher._waiting.items) == THREADS - 1)
        gate.open()
        results = [future.result(LIMIT_S) for future in (first, *others)]
    assert gate.lengths == [1, THREADS - 1]
    for result, expected in zip(results, alone, strict=True):
        assert found(result) == found(expected)


def test_a_batch_is_no_longer_than_the_parameter_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = Detector(colour_folder(tmp_path / "colours"), max_batch=2)
    gate = Gate(detector.network._session.run)
    monkeypatch.setattr(detector.network._session, "run", gate)
    batcher = detector.network._batcher
    assert batcher is not None
    with ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(detector.detect, IMAGES[0], 0.0)]
        assert gate.entered.wait(LIMIT_S)  # else the first run might be of two
        futures += [pool.submit(detector.detect, image, 0.0) for image in IMAGES[1:]]
        wait_until("five wait", lambda: len(batcher._waiting.items) == THREADS - 1)
        gate.open()
        results = [future.result(LIMIT_S) for future in futures]
    assert gate.lengths == [1, 2, 2, 1]
    assert [result.detections[0].class_name for result in results] == ["red"] * 4 + ["green"] * 2


@pytest.mark.parametrize(("batch", "output_batch", "most"), [(1, 1, 1), (1, "any", 1), ("batch", "batch", 8)])
def test_only_a_batch_axis_free_at_both_ends_is_used(
    tmp_path: Path, batch: int | str, output_batch: int | str, most: int
) -> None:
    network = Detector(colour_folder(tmp_path / "colours", batch, output_batch=output_batch)).network
    assert network.max_batch == most
    assert Detector(tmp_path / "colours", max_batch=1).network.max_batch == 1


def test_real_models_with_a_fixed_batch_run_one_by_one(model_folder: Path) -> None:
    assert Detector(model_folder).network.max_batch == 1


def test_a_request_whose_time_ran_out_while_it_waited_is_not_executed() -> None:
    clock = ManualClock()
    gate = Gate(lambda tensor: [tensor])
    batcher = Batcher(gate, clock, 4, 4)
    tensor = np.ones((1, 3), np.float32)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(batcher.submit, Item(tensor))
        assert gate.entered.wait(LIMIT_S)
        late = pool.submit(batcher.submit, Item(tensor, 5))
        patient = pool.submit(batcher.submit, Item(tensor, 50))
        wait_until("both wait", lambda: len(batcher._waiting.items) == 2)
        clock.advance(10)
        with pytest.raises(NotExecuted, match="time ran out"):
            late.result(LIMIT_S)
        gate.open()
        assert patient.result(LIMIT_S)[0].shape == (1, 3)
        first.result(LIMIT_S)
    assert gate.lengths == [1, 1]


def test_a_request_that_is_withdrawn_while_it_waits_leaves_at_once_and_never_runs() -> None:
    gate = Gate(lambda tensor: [tensor])
    batcher = Batcher(gate, ManualClock(), 4, 4)
    tensor = np.ones((1, 3), np.float32)
    loser = Item(tensor)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(batcher.submit, Item(tensor))
        assert gate.entered.wait(LIMIT_S)
        lost = pool.submit(batcher.submit, loser)
        wanted = pool.submit(batcher.submit, Item(tensor))
        wait_until("both wait", lambda: len(batcher._waiting.items) == 2)
        loser.cancellation.cancel()
        with pytest.raises(NotExecuted, match="withdrawn"):
            lost.result(LIMIT_S)
        assert not wanted.done()
        gate.open()
        assert wanted.result(LIMIT_S)[0].shape == first.result(LIMIT_S)[0].shape == (1, 3)
    assert gate.lengths == [1, 1]


def test_what_runs_already_is_not_stopped() -> None:
    gate = Gate(lambda tensor: [tensor])
    batcher = Batcher(gate, ManualClock(), 4, 4)
    item = Item(np.ones((1, 3), np.float32))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(batcher.submit, item)
        assert gate.entered.wait(LIMIT_S)
        item.cancellation.cancel()
        gate.open()
        assert running.result(LIMIT_S)[0].shape == (1, 3)


def test_more_than_may_wait_are_refused_at_once() -> None:
    gate = Gate(lambda tensor: [tensor])
    batcher = Batcher(gate, ManualClock(), 2, 2)
    tensor = np.ones((1, 3), np.float32)
    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(batcher.submit, Item(tensor))]
        assert gate.entered.wait(LIMIT_S)
        futures += [pool.submit(batcher.submit, Item(tensor)) for _ in range(2)]
        wait_until("both wait", lambda: len(batcher._waiting.items) == 2)
        with pytest.raises(Overloaded):
            batcher.submit(Item(tensor))
        gate.open()
        assert all(future.result(LIMIT_S)[0].shape == (1, 3) for future in futures)


@pytest.mark.parametrize("batch", [1, "batch"])
def test_a_detector_starts_nothing_without_budget_or_once_it_is_withdrawn(tmp_path: Path, batch: int | str) -> None:
    detector = Detector(colour_folder(tmp_path / "colours", batch))
    with budget.until(0), pytest.raises(NotExecuted, match="time ran out"):
        detector.detect(IMAGES[0])
    withdrawn = Cancellation()
    withdrawn.cancel()
    with cancel.by(withdrawn), pytest.raises(NotExecuted, match="withdrawn"):
        detector.detect(IMAGES[0])
    assert detector.detect(IMAGES[0], 0.0).detections


def test_a_letterboxed_model_gives_boxes_in_the_image(tmp_path: Path) -> None:
    detector = Detector(colour_folder(tmp_path / "colours", resize="letterbox"))
    image = np.full((4 * SIDE, 2 * SIDE, 3), (255, 0, 0), np.uint8)  # a quarter of the input left and right is border
    one = detector.detect(image, 0.1).detections[0]
    assert (one.class_name, round(one.score, 2)) == ("red", 0.5)
    assert (one.left, one.top, one.right, one.bottom) == (16.0, 0.0, 48.0, 64.0)


def test_what_a_file_leaves_open_is_compared_when_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime works out what it can; here it is made to know nothing of the output."""

    def unknowing(*given: Any) -> Session:
        session = Session(*given)
        session.output_shapes = dict.fromkeys(session.output_shapes, (None, None, None))
        return session

    monkeypatch.setattr(network, "Session", unknowing)
    folder = colour_folder(tmp_path / "colours")
    assert Detector(folder).detect(IMAGES[0]).detections
    (folder / "colours.txt").write_text("red\ngreen\n")
    detector = Detector(folder)
    with pytest.raises(ConfigError, match=r"output0 has shape \[1, 7, 1\], but 4 for a box and 2 labels"):
        detector.detect(IMAGES[0])
