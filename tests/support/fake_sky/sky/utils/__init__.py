"""SkyPilot's folder of this name."""
