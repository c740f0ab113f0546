"""Deterministic simulation of a fleet: the production policies, with time, links and machines modelled."""
