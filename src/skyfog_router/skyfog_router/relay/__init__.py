"""ROS services relayed as bytes: their types by name."""
