# shellcheck shell=bash
# Source this in bash for a shell in which colcon, ros2 and skyfog work: source tools/env.sh
# `./ws shell` and `./ws run CMD…` do it for you.

SKYFOG_WS="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export SKYFOG_WS

_skyfog_source() {
  # The setup files of ROS and colcon read unset variables and test commands that fail.
  local was=$-
  set +eu
  # shellcheck disable=SC1090
  [ ! -f "$1" ] || . "$1"
  case $was in *e*) set -e ;; esac
  case $was in *u*) set -u ;; esac
}

if [ -f /opt/ros/jazzy/setup.bash ]; then
  # ROS 2 from apt. Not run here: the machines this was written on have none.
  _skyfog_source /opt/ros/jazzy/setup.bash
  export PATH="$SKYFOG_WS/.venv/bin:$PATH"
else
  _skyfog_source "$SKYFOG_WS/.venv/setup.bash"
  _skyfog_source "$SKYFOG_WS/.ws/ros_launch/setup.bash"
  _skyfog_source "$SKYFOG_WS/.ws/overlay/install/local_setup.bash"
fi
_skyfog_source "$SKYFOG_WS/install/local_setup.bash"
unset -f _skyfog_source

# The environment's own Python, also where another is active in the shell that sources this.
export VIRTUAL_ENV="$SKYFOG_WS/.venv"
unset PYTHONHOME
export COLCON_DEFAULTS_FILE="$SKYFOG_WS/tools/colcon_defaults.yaml"
# ROS talks to this machine only, through shared memory segments that hold an image; see config/fastdds.xml.
export ROS_AUTOMATIC_DISCOVERY_RANGE="${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}"
export FASTRTPS_DEFAULT_PROFILES_FILE="${FASTRTPS_DEFAULT_PROFILES_FILE:-$SKYFOG_WS/config/fastdds.xml}"
