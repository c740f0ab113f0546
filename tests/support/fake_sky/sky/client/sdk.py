"""What SkyPilot's SDK has beyond what `sky` names."""

from sky import api_cancel, enabled_clouds, endpoints

__all__ = ["api_cancel", "enabled_clouds", "endpoints"]
