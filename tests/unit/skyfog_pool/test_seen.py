from __future__ import annotations

from skyfog_pool.provider.base import Ending, Instance, Phase
from skyfog_pool.provider.seen import MOST_ENDED, Seen


def machine(name: str, pool: str = "detect") -> Instance:
    return Instance(name, pool, 1, 1, name, "a", "spot", Phase.RUNNING)


def preempted(_: Instance) -> Ending:
    return Ending.PREEMPTED


def test_what_a_later_listing_lacks_is_gone_for_good() -> None:
    seen = Seen()
    one, two = seen.keep(machine("one")), seen.keep(machine("two"))
    (gone,) = seen.gone("detect", [two], seen.now(), preempted)
    assert (gone.id, gone.phase, gone.ending) == (one.id, Phase.GONE, Ending.PREEMPTED)
    (later,) = seen.gone("detect", [two], seen.now(), lambda _: Ending.FAILED)
    assert later.ending is Ending.PREEMPTED
    assert seen.gone("other", [], seen.now(), preempted) == []


def test_what_was_given_back_says_so() -> None:
    seen = Seen()
    seen.keep(machine("one"))
    seen.give_back("one")
    assert seen.is_returned("one")
    (gone,) = seen.gone("detect", [], seen.now(), preempted)
    assert gone.ending is Ending.RETURNED


def test_a_machine_that_came_while_the_listing_was_made_is_not_gone() -> None:
    seen = Seen()
    asked = seen.now()
    seen.keep(machine("one"))
    assert seen.gone("detect", [], asked, preempted) == []
    assert len(seen.gone("detect", [], seen.now(), preempted)) == 1


def test_only_so_many_are_remembered() -> None:
    seen = Seen()
    for number in range(MOST_ENDED + 3):
        seen.keep(machine(f"m{number}"))
        seen.give_back(f"m{number}")
    gone = seen.gone("detect", [], seen.now(), preempted)
    assert len(gone) == MOST_ENDED
    assert gone[0].id == "m3"
    assert not seen.is_returned("m0")
