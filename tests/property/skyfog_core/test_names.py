"""Names become tables or keys and come back."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from skyfog_core.config.parameters import flatten, nest
from skyfog_core.wire.keys import ReplicaKey, ServiceKeys, parse_live, replica_key, service_chunk

words = st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True)
chunks = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,8}", fullmatch=True)
services = st.lists(words, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
trees = st.dictionaries(
    words,
    st.recursive(st.integers() | st.text(), lambda t: st.dictionaries(words, t, min_size=1, max_size=3), max_leaves=8),
    max_size=4,
)


@given(trees)
def test_nest_undoes_flatten(tree: dict[str, object]) -> None:
    assert nest(flatten(tree)) == tree


@given(services, services)
def test_two_services_never_share_a_key(one: str, other: str) -> None:
    assume(one != other)
    assert service_chunk(one) != service_chunk(other)


@given(chunks, services, chunks, chunks)
def test_every_key_names_its_replica(fleet: str, service: str, zone: str, replica: str) -> None:
    keys, who = ServiceKeys(fleet, service), replica_key(zone, replica)
    assert parse_live(keys.live(who, "A")) == (ReplicaKey(zone, replica), "A")
    assert len({keys.query(who), keys.live(who, "A"), keys.cancel(who)}) == 3
