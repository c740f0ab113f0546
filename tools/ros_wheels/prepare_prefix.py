#!/usr/bin/env python3
"""Make the virtual environment that holds the ROS 2 wheels usable like /opt/ros/jazzy. Run by its own Python.

CMake export files of the wheels name the Python of the machine that built them; they are pointed at this one's
headers and numpy. Then setup.* and local_setup.* are written, so that a shell can source the environment and colcon
chains to it. A second run changes nothing.
"""

import sys
import sysconfig
from pathlib import Path

import numpy as np

BUILDER_INCLUDE = "/opt/python/cp311-cp311/include/python3.11"
BUILDER_NUMPY = "/opt/python/cp311-cp311/lib/python3.11/site-packages/numpy/_core/include"

# Prepends only what is not there yet, so that sourcing twice is harmless. POSIX sh: colcon sources the .sh too.
SETUP = """\
# written by prepare_prefix.py
_skyfog_prepend() {{
  eval "_skyfog_old=\\"\\${{$1:-}}\\""
  case ":$_skyfog_old:" in
    *":$2:"*) ;;
    *) export "$1=$2${{_skyfog_old:+:$_skyfog_old}}" ;;
  esac
  unset _skyfog_old
}}
{prepends}
unset -f _skyfog_prepend
export ROS_VERSION=2 ROS_PYTHON_VERSION=3 ROS_DISTRO=jazzy
export RMW_IMPLEMENTATION="${{RMW_IMPLEMENTATION:-rmw_fastrtps_cpp}}"
# Without this every Python of the environment starts itself a second time to set LD_LIBRARY_PATH, done above.
export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1
"""


def python_include() -> Path:
    """The folder of Python.h of the interpreter that the environment was made from."""
    base = {"installed_base": sys.base_prefix, "base": sys.base_prefix}
    include = Path(sysconfig.get_path("include", vars=base))
    if not (include / "Python.h").is_file():
        sys.exit(
            f"no Python.h in {include}: the headers of Python {sys.version_info[0]}.{sys.version_info[1]} are missing"
        )
    return include


def mend_cmake_exports(prefix: Path) -> int:
    """Replace the builder's paths; returns how many files changed."""
    changed = 0
    for file in prefix.glob("share/*/cmake/*Export*.cmake"):
        old = file.read_text()
        new = old.replace(BUILDER_INCLUDE, str(python_include())).replace(BUILDER_NUMPY, np.get_include())
        if new != old:
            # A new file, never the old one written over: installers link files from their cache.
            mended = file.with_suffix(".mended")
            mended.write_text(new)
            mended.replace(file)
            changed += 1
    return changed


def write_setup_files(prefix: Path, site_packages: Path) -> None:
    """Write setup.{sh,bash,zsh} and local_setup.{sh,bash,zsh} into the prefix."""
    libraries = [prefix / "lib", *sorted(p for p in site_packages.glob("ros_*.libs") if p.is_dir())]
    pairs = [("LD_LIBRARY_PATH", folder) for folder in reversed(libraries)]
    pairs += [("AMENT_PREFIX_PATH", prefix), ("CMAKE_PREFIX_PATH", prefix), ("PATH", prefix / "bin")]
    body = SETUP.format(prepends="\n".join(f'_skyfog_prepend {name} "{folder}"' for name, folder in pairs))
    for stem in ("setup", "local_setup"):
        for shell in ("sh", "bash", "zsh"):
            (prefix / f"{stem}.{shell}").write_text(body)


def main() -> None:
    """Mend and write."""
    prefix = Path(sys.prefix)
    changed = mend_cmake_exports(prefix)
    write_setup_files(prefix, Path(sysconfig.get_path("purelib")))
    print(f"{prefix}: {changed} CMake files re-pointed, setup files written")


if __name__ == "__main__":
    main()
