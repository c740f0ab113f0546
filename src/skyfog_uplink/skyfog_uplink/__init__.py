"""A car's thin uplink shared by its services so that every deadline holds (TURBO, arXiv 2410.16227, 2503.20127)."""
