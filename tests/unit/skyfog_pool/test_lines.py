from __future__ import annotations

from skyfog_pool.provider.lines import describe


class Tried(RuntimeError):
    failover_history = (ValueError("first\n  zone"), KeyError())


def test_an_error_is_told_by_its_classes_and_what_was_tried_before() -> None:
    told = describe(Tried("\x1b[1mno\x1b[0m  luck"))
    assert told["kinds"] == ["Tried", "RuntimeError", "Exception", "BaseException"]
    assert told["message"] == "no luck"
    assert told["causes"] == ["first zone", "KeyError"]
