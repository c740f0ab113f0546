"""The pure bottom of Skyfog: no ROS, no sockets, no threads outside `nodes/`."""
