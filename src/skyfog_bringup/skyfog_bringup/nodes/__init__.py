"""ROS nodes of the demo."""
