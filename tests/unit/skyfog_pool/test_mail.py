"""What the fleet's network tells a controller that may be cut off from it."""

from __future__ import annotations

from skyfog_core.wire.keys import ReplicaKey
from skyfog_pool.mail import Mail

A, B = ReplicaKey("a", "live-1"), ReplicaKey("b", "live-2")


def test_the_newest_word_on_each_token_is_taken_once() -> None:
    mail = Mail()
    mail.on_token(A, True)
    mail.on_token(A, False)
    mail.on_token(B, True)
    assert mail.take()[0] == [(A, False), (B, True)]
    assert mail.take()[0] == []


def test_while_it_is_we_who_are_cut_off_nobody_is_taken_for_gone() -> None:
    mail = Mail()
    mail.on_token(A, False)
    mail.on_token(B, False)
    assert mail.take(hold_losses=True)[0] == []
    mail.on_token(A, True)  # the link is back, and tokens are told anew
    assert mail.take(hold_losses=True)[0] == [(A, True)]
    assert mail.take()[0] == [(B, False)], "who did not come back is gone"
