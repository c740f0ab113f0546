"""The ROS 2 faces of planning: the only modules here that import rclpy."""
