"""ROS ends that a benchmark starts as processes of their own."""
