"""Every schema of the workspace, and how a schema becomes ROS parameters."""
