"""A cloud on this machine, as a process: zones, machines, a market, and what can be done to them."""

# In the cloud's folder.
SOCKET = "cloud.sock"
LOCK = "cloud.lock"
LOG = "cloud.log"
MACHINES = "machines"
