"""Pure decisions: events and `now_ns` in, actions out."""
