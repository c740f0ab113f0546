"""Every byte on the link between a robot and its replicas."""
