import math
from typing import Any

import pytest

from skyfog_core.errors import InvalidRequest
from skyfog_inference.request import SamplingParams, Sequence


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("temperature", math.nan),
        ("temperature", -1),
        ("top_p", 0),
        ("top_p", 1.5),
        ("top_k", -1),
        ("logprobs", 21),
        ("stop", ("",)),
        ("presence_penalty", math.inf),
    ],
)
def test_a_wrong_field_is_named(field: str, value: Any) -> None:
    with pytest.raises(InvalidRequest, match=field):
        SamplingParams(**{field: value})


def test_a_sequence_prefills_until_one_token_remains() -> None:
    sequence = Sequence("a", [1, 2, 3], prompt_len=3, max_tokens=4, arrived_ns=0)
    assert sequence.prefilling
    sequence.computed = 2
    assert not sequence.prefilling
    assert (sequence.remaining, sequence.output_len) == (1, 0)
