"""How long the parts of a step take: measured, computed from a machine's figures, or constant."""
