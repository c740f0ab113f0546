"""A pool on this machine's emulated cloud, alive: requests flow while zones, machines and the controller are struck."""
