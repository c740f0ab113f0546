"""The ROS 2 shells of motion planning."""
