"""The ROS 2 face: the service and the action `Generate`."""
