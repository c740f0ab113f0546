# On a machine of the pool, or on one by hand: the runner, and the replica role below it. Stands on skyfog-base.
# hadolint ignore=DL3006
FROM skyfog-base

# A pool's provider overrides these; what they mean stands in skyfog_pool/report.py.
ENV SKYFOG_RUNNER_LISTEN=0.0.0.0:7700 \
    SKYFOG_SERVICE_PORT=7701 \
    SKYFOG_RUN="exec ros2 launch skyfog_bringup cloud.launch.py metrics_listen:=127.0.0.1:7701"
EXPOSE 7700
# Ready through the runner, as the pool's probes ask.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
  CMD ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:7700/ready', timeout=4)"]
CMD ["./ws", "run", "python", "-m", "skyfog_pool.runner"]
