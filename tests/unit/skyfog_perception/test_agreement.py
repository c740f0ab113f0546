"""How far two answers agree, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from skyfog_perception.agreement import count_detections, count_masks, f1, mean_iou
from skyfog_perception.detector import Detected

SIZE = (100, 200)  # height, width


def box(name: str, left: float, top: float, right: float, bottom: float, score: float = 0.9) -> Detected:
    return Detected(0, name, score, left, top, right, bottom)


CAR, PERSON = box("car", 0, 0, 40, 20), box("person", 100, 0, 120, 60)


def agreement(reference: list[Detected], other: list[Detected]) -> float:
    return f1(count_detections(reference, SIZE, other, SIZE))


def test_the_same_answer_agrees_wholly_and_so_do_two_that_saw_nothing() -> None:
    assert agreement([CAR, PERSON], [PERSON, CAR]) == 1.0
    assert agreement([], []) == 1.0


def test_what_only_one_saw_counts_against_it() -> None:
    assert agreement([CAR, PERSON], [CAR]) == pytest.approx(2 / 3)
    assert agreement([CAR], [CAR, PERSON]) == pytest.approx(2 / 3)
    assert agreement([CAR], []) == 0.0


def test_a_pair_is_of_one_class_and_overlaps_by_half() -> None:
    assert agreement([CAR], [box("truck", 0, 0, 40, 20)]) == 0.0
    assert agreement([CAR], [box("car", 0, 0, 40, 10)]) == 1.0  # half of it
    assert agreement([CAR], [box("car", 0, 0, 40, 9.9)]) == 0.0


def test_an_object_is_in_one_pair_only_and_the_best_fit_is_taken() -> None:
    assert agreement([CAR], [CAR, box("car", 1, 0, 40, 20)]) == pytest.approx(2 / 3)
    near, far = box("car", 2, 0, 42, 20), box("car", 20, 0, 60, 20)
    assert count_detections([far, near], SIZE, [CAR, box("car", 20, 0, 60, 20)], SIZE).tolist() == [2, 2, 2]


def test_answers_about_a_smaller_copy_are_brought_to_one_size() -> None:
    small = box("car", 0, 0, 10, 10)
    assert count_detections([CAR], SIZE, [small], (50, 50)).tolist() == [1, 1, 1]


def test_names_of_other_label_files_mean_the_same() -> None:
    assert agreement([box("motorcycle", 0, 0, 9, 9)], [box("motorbike", 0, 0, 9, 9)]) == 1.0


def test_pictures_count_by_their_objects() -> None:
    many, none = count_detections([CAR] * 3, SIZE, [CAR] * 3, SIZE), count_detections([PERSON], SIZE, [], SIZE)
    assert f1(many + none) == pytest.approx(6 / 7)


LABELS = ("background", "car", "person")


def masks(reference: list[list[int]], other: list[list[int]], labels: tuple[str, ...] = LABELS) -> float:
    counts = count_masks(np.array(reference, np.uint8), LABELS, np.array(other, np.uint8), labels)
    return mean_iou(counts)


def test_masks_agree_by_the_mean_over_the_classes_that_either_saw() -> None:
    assert masks([[0, 0], [1, 1]], [[0, 0], [1, 1]]) == 1.0
    assert masks([[0, 0], [1, 1]], [[0, 0], [1, 0]]) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert masks([[0, 0], [0, 0]], [[0, 0], [0, 2]]) == pytest.approx((3 / 4 + 0) / 2)


def test_masks_of_other_sizes_and_labels_are_compared() -> None:
    assert masks([[1, 1], [0, 0]], [[1], [0]]) == 1.0
    assert masks([[1, 1], [0, 0]], [[2, 2], [0, 0]], ("background", "person", "car")) == 1.0
    # a class that the reference does not know is none of its
    assert masks([[1, 1], [0, 0]], [[1, 1], [0, 0]], ("background", "tree")) == pytest.approx((1 + 0) / 2)
