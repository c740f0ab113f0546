"""How many replicas, where, and on which market: pure, with the time as an argument."""
