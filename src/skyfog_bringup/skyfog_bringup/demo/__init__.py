"""The main job on one machine: replicas in several zones, two faults, and what the robot saw of them."""
