# An operator's: the `skyfog` command, for a fleet and its pools. Stands on skyfog-base (base.Dockerfile).
# hadolint ignore=DL3006
FROM skyfog-base

# Where pools keep their state: there already, so that a volume mounted on it belongs to the user too.
RUN mkdir -p /home/skyfog/.local/state/skyfog
# That the command runs, and reads the state of every pool there is.
HEALTHCHECK --interval=60s --timeout=20s --start-period=20s \
  CMD ["/opt/skyfog/ws", "run", "skyfog", "pool", "status"]
ENTRYPOINT ["/opt/skyfog/ws", "run", "skyfog"]
CMD ["status", "--help"]
