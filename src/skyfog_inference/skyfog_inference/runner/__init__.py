"""Performs steps: whole batches in turn, or two sub-batches side by side on device and host."""
