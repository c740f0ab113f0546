"""FogROS2-FT's three scenarios on our own services: recorded, replayed under every policy, and checked live."""
