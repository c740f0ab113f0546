"""A car's uplink, alive: cameras, encoders, shaper, a link that follows a trace, gateway, router, replicas."""
