# On a car: its cameras' services, on its own model and through its uplink. Stands on skyfog-base (base.Dockerfile).
# hadolint ignore=DL3006
FROM skyfog-base

# ros2 launch ends its nodes in order on SIGINT.
STOPSIGNAL SIGINT
# That the shaper tells its state. What the uplink does to the services is for /diagnostics: the car drives without it.
HEALTHCHECK --interval=60s --timeout=30s --start-period=60s \
  CMD ["/opt/skyfog/ws", "run", "skyfog", "uplink", "status", "--wait", "15"]
CMD ["./ws", "run", "ros2", "launch", "skyfog_bringup", "car.launch.py", "connect:=tcp/gateway:7450"]
