"""`skyfog bench uplink`: what a car makes of a thin uplink, under every way to share it."""
