"""ROS shells: parameters in, callbacks out, no choices."""
