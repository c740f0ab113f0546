"""The ROS 2 shells of the perception services."""
