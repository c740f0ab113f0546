from __future__ import annotations

import re
from pathlib import Path

import pytest

from skyfog_core import errors
from skyfog_core.errors import ERROR_OF_STATUS, RequestError, Status, plain_reason

STATUS_MSG = Path(__file__).parents[3] / "src/skyfog_interfaces/msg/Status.msg"


def descendants(kind: type[RequestError]) -> list[type[RequestError]]:
    return [kind, *(d for child in kind.__subclasses__() for d in descendants(child))]


# Errors that a driver may send. A RequestError as such is never raised.
OF_ONE_STATUS = [k for k in descendants(RequestError) if k.__module__ == errors.__name__ and k is not RequestError]


def test_status_has_the_names_and_numbers_of_the_ros_message() -> None:
    constants = re.findall(r"^uint8 ([A-Z_]+)=(\d+)", STATUS_MSG.read_text(), re.MULTILINE)
    assert constants, "no constants found"
    assert {name: int(value) for name, value in constants} == {s.name: s.value for s in Status}


def test_every_status_but_ok_has_an_error_and_the_error_names_that_status() -> None:
    assert ERROR_OF_STATUS.keys() == set(Status) - {Status.OK}
    assert all(kind.status is status for status, kind in ERROR_OF_STATUS.items())


@pytest.mark.parametrize("kind", OF_ONE_STATUS)
def test_an_errors_status_crosses_the_wire_as_an_error_that_promises_no_more(kind: type[RequestError]) -> None:
    assert kind.status is not Status.OK
    assert issubclass(kind, ERROR_OF_STATUS[kind.status]), "what arrives is the error itself or an ancestor"


def test_only_not_executed_says_that_nothing_ran() -> None:
    certain = {k for k in descendants(RequestError) if k.status is Status.NOT_EXECUTED}
    assert certain == set(descendants(errors.NotExecuted))


def test_plain_reason_leaves_out_line_breaks_and_places_in_a_librarys_source() -> None:
    error = ValueError("cannot bind\n  tcp/1.2.3.4:1 at /build/zenoh/x.rs:61.")
    assert plain_reason(error) == "cannot bind tcp/1.2.3.4:1"
