# What every role's image stands on: the workspace, set up and built by the steps of ./ws. Build it from the top folder:
#   docker build -f docker/base.Dockerfile -t skyfog-base .
FROM ros:jazzy-ros-base

ENV DEBIAN_FRONTEND=noninteractive
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN useradd --create-home --uid 10001 skyfog
WORKDIR /opt/skyfog

# Only what ./ws setup reads, so that a change of sources does not install everything anew.
COPY ws ./
COPY tools/setup.sh tools/env.sh tools/requirements.txt tools/requirements-dev.txt tools/constraints.txt tools/
RUN ./ws setup && rm -rf /var/lib/apt/lists/* /root/.cache

COPY tools tools
COPY colcon.meta LICENSE NOTICE ./
COPY src src
COPY launch launch
COPY config config
COPY sim_worlds sim_worlds
RUN ./ws build && rm -rf log .ws/log

# The workspace belongs to root and is only read; logs of ROS go to the home folder.
USER 10001
CMD ["./ws", "run", "skyfog", "--help"]
