"""The ROS 2 shell of the simulated world."""
