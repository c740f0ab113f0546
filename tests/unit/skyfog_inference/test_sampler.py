import math
from typing import Any

import pytest
import torch

from skyfog_inference import sampler
from skyfog_inference.request import SamplingParams
from skyfog_inference.sampler import Draw, Drawn, draw, uniform

VOCAB = 100
MIXED: list[dict[str, Any]] = [
    {"temperature": 0},
    {},
    {"top_k": 5},
    {"top_p": 0.3},
    {"temperature": 0.2, "top_k": 20, "top_p": 0.9},
    {"temperature": 5.0, "presence_penalty": 1.5},
    {"temperature": 0, "frequency_penalty": 0.5, "logprobs": 3},
    {"logprobs": 0},
]


def rows(count: int, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(count, VOCAB, generator=torch.Generator().manual_seed(seed))


def ask(index: int = 0, seed: int = 7, counts: dict[int, int] | None = None, **params: Any) -> Draw:
    return Draw(SamplingParams(**params), seed, index, counts or {})


def token(logits: torch.Tensor, one: Draw) -> int:
    (drawn,) = draw(logits[None], [one])
    assert drawn is not None
    return drawn.token


def test_the_numbers_of_a_seed_are_fixed_for_ever() -> None:
    """Replicas of different versions go on with each other's texts."""
    assert [round(uniform(7, n), 6) for n in range(3)] == [0.728348, 0.803338, 0.244195]
    assert uniform(7 + 2**64, 0) == uniform(7, 0) != uniform(8, 0)
    numbers = sorted(uniform(0, n) for n in range(1_000))
    assert 0 <= numbers[0] < 0.01
    assert 0.99 < numbers[-1] < 1


def test_the_tokens_of_a_seed_are_fixed_for_ever() -> None:
    logits = torch.arange(VOCAB, dtype=torch.float32).cos() * 4
    assert [token(logits, ask(n)) for n in range(6)] == [69, 76, 23, 18, 32, 62]


def test_no_row_depends_on_the_others() -> None:
    logits = rows(len(MIXED))
    wanted = [ask(n, seed=n, counts={3: 2, 50: 1}, **params) for n, params in enumerate(MIXED)]
    together = draw(logits, wanted)
    alone = [draw(logits[n : n + 1], wanted[n : n + 1])[0] for n in range(len(MIXED))]
    backwards = draw(logits.flip(0), wanted[::-1])[::-1]
    assert together == alone == backwards


def test_greedy_is_the_most_likely() -> None:
    logits = rows(5)
    drawn = draw(logits, [ask(n, temperature=0) for n in range(5)])
    assert [one and one.token for one in drawn] == logits.argmax(-1).tolist()


def test_a_tiny_temperature_is_greedy() -> None:
    logits = rows(1)[0]
    assert all(token(logits, ask(n, temperature=1e-300)) == int(logits.argmax()) for n in range(20))


def test_top_k_keeps_the_k_most_likely() -> None:
    logits = rows(1)[0]
    best = set(logits.topk(3).indices.tolist())
    assert {token(logits, ask(n, top_k=3, temperature=3.0)) for n in range(200)} == best


def test_top_k_of_more_than_there_are_is_none() -> None:
    logits = rows(1)[0] / 5
    beyond, none = ({token(logits, ask(n, top_k=k, top_p=0.3)) for n in range(200)} for k in (VOCAB + 5, 0))
    assert beyond == none


def test_top_p_keeps_the_fewest_that_reach_it() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    for top_p, most in [(0.01, 1), (0.49, 1), (0.51, 2), (0.79, 2), (0.81, 3), (0.96, 4)]:
        drawn = {token(logits, ask(n, top_p=top_p)) for n in range(300)}
        assert drawn == set(range(most)), top_p


def test_equal_tokens_are_kept_together() -> None:
    logits = torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0])
    assert {token(logits, ask(n, top_k=2)) for n in range(100)} == {1, 3, 4}
    assert {token(logits, ask(n, top_p=0.3)) for n in range(100)} == {1, 3, 4}


@pytest.mark.parametrize("first_look", [1, 2, 7, VOCAB])
def test_how_far_is_looked_at_first_makes_no_difference(monkeypatch: pytest.MonkeyPatch, first_look: int) -> None:
    logits = rows(60) / torch.linspace(0.1, 30, 60)[:, None]  # from sharp to flat
    logits[7] = 0.0
    wanted = [ask(n, top_k=n % 13, top_p=(0.1, 0.5, 0.99, 1.0)[n % 4]) for n in range(60)]
    expected = draw(logits, wanted)
    monkeypatch.setattr(sampler, "FIRST_LOOK", first_look)
    assert draw(logits, wanted) == expected


def test_penalties_count_what_was_drawn() -> None:
    logits = torch.zeros(4)
    logits[1], logits[2] = 3.0, 2.0
    assert token(logits, ask(temperature=0, counts={1: 1}, presence_penalty=0.9)) == 1
    assert token(logits, ask(temperature=0, counts={1: 1}, presence_penalty=1.1)) == 2
    assert token(logits, ask(temperature=0, counts={1: 2}, frequency_penalty=0.6)) == 2
    assert token(logits, ask(temperature=0, counts={1: 1}, frequency_penalty=0.6)) == 1


def test_logprobs_are_the_models_own() -> None:
    logits = rows(1)
    own = logits[0].log_softmax(-1)
    (drawn,) = draw(logits, [ask(temperature=2.0, top_k=9, logprobs=4, counts={1: 1}, presence_penalty=2.0)])
    assert drawn is not None
    assert drawn.logprob == pytest.approx(float(own[drawn.token]), abs=1e-5)
    best = own.topk(4)
    assert [one for one, _ in drawn.top] == best.indices.tolist()
    assert [value for _, value in drawn.top] == pytest.approx(best.values.tolist(), abs=1e-5)


def test_who_asks_for_no_logprobs_gets_none() -> None:
    first, second = draw(rows(2), [ask(), ask(logprobs=0)])
    assert isinstance(first, Drawn)
    assert isinstance(second, Drawn)
    assert (first.logprob, first.top, second.top) == (None, (), ())
    assert second.logprob is not None


@pytest.mark.parametrize("broken", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0, 1])
def test_a_row_that_is_no_distribution_has_no_token(broken: float, temperature: float) -> None:
    logits = rows(3)
    sound = draw(logits, [ask(n, temperature=temperature) for n in range(3)])
    logits[1, 5] = broken
    drawn = draw(logits, [ask(n, temperature=temperature) for n in range(3)])
    assert drawn == [sound[0], None, sound[2]]


def test_a_row_without_any_possible_token_has_none() -> None:
    assert draw(torch.full((1, 4), -math.inf), [ask()]) == [None]


def test_impossible_tokens_are_never_drawn() -> None:
    logits = torch.full((8,), -math.inf)
    logits[3] = 0.0
    assert {token(logits, ask(n)) for n in range(50)} == {3}


def test_at_the_very_bottom_the_first_possible_token_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "uniform", lambda seed, index: 0.0)
    logits = torch.tensor([-math.inf, -math.inf, 1.0, 2.0])
    assert token(logits, ask()) == token(logits, ask(top_k=2)) == 2


def test_at_the_very_top_the_last_possible_token_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "uniform", lambda seed, index: 1 - 2.0**-53)
    logits = torch.tensor([1.0, 2.0, -math.inf, -math.inf])
    assert token(logits, ask()) == token(logits, ask(top_k=2)) == 1


def test_the_callers_logits_are_left_as_they_are() -> None:
    logits = rows(1)
    before = logits.clone()
    draw(logits, [ask(counts={1: 1}, presence_penalty=1.0, temperature=0.5, top_k=3, top_p=0.5)])
    assert torch.equal(logits, before)


def test_logits_that_differ_in_their_last_bits_give_the_same_token() -> None:
    """Another batch or machine sums in another order."""
    logits = rows(1)[0]
    noise = 1e-6 * torch.randn(VOCAB, generator=torch.Generator().manual_seed(1))
    same = [token(logits, ask(n)) == token(logits + noise, ask(n)) for n in range(500)]
    assert sum(same) >= 499


def test_no_rows_no_tokens() -> None:
    assert draw(torch.empty(0, VOCAB), []) == []
