"""Replicas on spot and on-demand machines over zones and clouds (SkyServe, arXiv 2411.01438)."""
