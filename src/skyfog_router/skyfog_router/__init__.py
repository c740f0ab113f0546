"""Replica router (FogROS2-FT, arXiv 2412.05408): a service call is answered by whichever replica is first."""
