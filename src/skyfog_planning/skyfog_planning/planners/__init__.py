"""OMPL behind a table of names."""
