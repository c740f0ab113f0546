"""How bytes go between a car and its gateway."""
