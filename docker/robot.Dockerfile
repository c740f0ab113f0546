# On a robot: the proxy behind which its nodes find the fleet's services. Stands on skyfog-base (base.Dockerfile).
# hadolint ignore=DL3006
FROM skyfog-base

EXPOSE 7447
# ros2 launch ends its nodes in order on SIGINT.
STOPSIGNAL SIGINT
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
  CMD ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9464/metrics', timeout=4)"]
CMD ["./ws", "run", "ros2", "launch", "skyfog_bringup", "robot.launch.py", "listen:=tcp/0.0.0.0:7447", "metrics_listen:=127.0.0.1:9464"]
