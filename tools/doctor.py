#!/usr/bin/env python3
"""What this workspace needs, whether it is there, and the command that mends it. Works before set-up."""

import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
VENV_PYTHON = ROOT / ".venv" / "bin" / "python"
APT_ROS = Path("/opt/ros/jazzy/setup.bash")
SETUP = "./ws setup"
DISK_GIB = 5
SHARED_MEMORY_MIB = 512


class Row(NamedTuple):
    """One line of the table; mend is empty where all is well."""

    what: str
    found: str
    mend: str = ""


def apt(*packages: str) -> str:
    """The command that installs Debian packages."""
    return f"{'' if os.geteuid() == 0 else 'sudo '}apt-get install {' '.join(packages)}"


def first_line(*command: str) -> str:
    """What a command prints first, or nothing if it cannot run."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip().split("\n")[0] if result.returncode == 0 else ""


def in_environment(*command: str) -> str:
    """first_line of a command in the workspace's environment."""
    return first_line(str(ROOT / "ws"), "run", *command)


def check_python() -> Row:
    """The Python that the environment is made from."""
    name = "/usr/bin/python3" if APT_ROS.is_file() else os.environ.get("PYTHON", "python3.11")
    found = first_line(name, "--version")
    wanted = "Python 3." if APT_ROS.is_file() else "Python 3.11"
    if found.startswith(wanted):
        return Row("Python", f"{found} ({shutil.which(name)})")
    if VENV_PYTHON.exists() and first_line(str(VENV_PYTHON), "--version"):
        return Row("Python", "the environment's own")
    packages = ("python3.11", "python3.11-venv", "python3.11-dev")
    return Row("Python", found or "missing", f"{apt(*packages)}, or PYTHON=… naming a 3.11")


def check_tools() -> list[Row]:
    """What compiles the interfaces."""
    rows = []
    for tool in ("cmake", "g++", "make"):
        found = first_line(tool, "--version")
        rows.append(Row(tool, found or "missing", "" if found else apt(tool)))
    if VENV_PYTHON.exists() and Path(sys.prefix).resolve() == VENV_PYTHON.parent.parent:
        # A virtual environment's own include folder is empty; the headers are with the Python it was made from.
        base = {"installed_base": sys.base_prefix, "base": sys.base_prefix}
        header = Path(sysconfig.get_path("include", vars=base)) / "Python.h"
        there = header.is_file()
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        rows.append(
            Row("Python headers", str(header.parent) if there else "missing", "" if there else apt(f"{version}-dev"))
        )
    return rows


def check_steps() -> list[Row]:
    """The environment, ROS in it, and what was built."""
    python = first_line(str(VENV_PYTHON), "--version")
    rows = [Row("environment", f".venv, {python}" if python else "missing", "" if python else SETUP)]
    if (ROOT / ".ws" / "unfinished").exists():
        rows.append(Row("set-up", "was cut off", SETUP))
    if not python:
        return [*rows, Row("ROS 2, build", "not looked at without the environment", SETUP)]
    source = "apt" if APT_ROS.is_file() else "PyPI wheels"
    ros = in_environment("python", "-c", "import rclpy; print(rclpy.__file__ and 'rclpy')")
    rows.append(Row("ROS 2 Jazzy", f"from {source}" if ros else "cannot be imported", "" if ros else SETUP))
    launch = in_environment("ros2", "launch", "--help")
    rows.append(Row("ros2 launch", "works" if launch else "does not run", "" if launch else SETUP))
    wanted = sorted(path.parent.name for path in ROOT.glob("src/*/package.xml"))
    absent = [name for name in wanted if not (ROOT / "install" / name).is_dir()]
    found = f"not built: {' '.join(absent)}" if absent else f"{len(wanted)} packages built"
    rows.append(Row("build", found, "./ws build" if absent else ""))
    return rows


def canonical(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def names_in(file: Path) -> list[str]:
    """The packages a requirements file names."""
    lines = (line.split("#")[0].strip() for line in file.read_text().splitlines())
    return [line for line in lines if line]


def pinned_here(constraints: Path) -> dict[str, str]:
    """Each package's version where its marker, such as `; python_version < "3.12"`, holds for this Python."""
    from packaging.requirements import Requirement  # noqa: PLC0415  # only in the environment

    pins = [Requirement(line) for line in names_in(constraints)]
    return {
        canonical(pin.name): str(pin.specifier).removeprefix("==")
        for pin in pins
        if pin.marker is None or pin.marker.evaluate()
    }


def check_packages() -> list[Row]:
    """Each pinned package against what is installed; one row if all agree."""
    if Path(sys.prefix).resolve() != VENV_PYTHON.parent.parent:
        return [Row("Python packages", "not looked at without the environment", SETUP)]
    pins = pinned_here(ROOT / "tools" / "constraints.txt")
    files = [ROOT / "tools" / "requirements.txt", ROOT / "tools" / "requirements-dev.txt"]
    if not APT_ROS.is_file():
        files.append(ROOT / "tools" / "ros_wheels" / "requirements.txt")
    rows = []
    names = sorted({canonical(name) for file in files for name in names_in(file)})
    for name in names:
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            found = "missing"
        if found != pins[name]:
            # Without its stamp the step that installs packages runs again.
            rows.append(Row(name, f"{found}, pinned {pins[name]}", f"rm -f .ws/stamp/{{ros,python}}; {SETUP}"))
    return rows or [Row("Python packages", f"{len(names)} as pinned")]


def check_machine() -> list[Row]:
    """Disk, shared memory and loopback."""
    free = shutil.disk_usage(ROOT).free / 2**30
    rows = [Row("free disk", f"{free:.0f} GiB", "" if free >= DISK_GIB else f"free {DISK_GIB} GiB in {ROOT}")]
    shared = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is, not a temporary file of ours
    if not (shared.is_dir() and os.access(shared, os.W_OK)):
        rows.append(Row("shared memory", "cannot be written", "mount -t tmpfs tmpfs /dev/shm"))
    else:
        room = shutil.disk_usage(shared).free / 2**20
        mend = "./ws run fastdds shm clean, or a larger /dev/shm (in a container: --shm-size=1g)"
        rows.append(Row("shared memory", f"{room:.0f} MiB free", "" if room >= SHARED_MEMORY_MIB else mend))
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=2).close()
    except OSError as error:
        rows.append(Row("loopback", str(error), "ip link set lo up"))
    else:
        rows.append(Row("loopback", "works"))
    return rows


def main() -> int:
    """Print the table; returns 1 if anything is missing."""
    rows = [check_python(), *check_tools(), *check_steps(), *check_packages(), *check_machine()]
    width = max(len(row.what) for row in rows)
    for row in rows:
        print(f"  {'MISSING' if row.mend else 'ok':8}{row.what:{width}}  {row.found}")
        if row.mend:
            print(f"  {'':8}{'':{width}}  -> {row.mend}")
    missing = sum(bool(row.mend) for row in rows)
    print(f"\n{missing} missing; the arrows say what mends it." if missing else "\nNothing is missing.")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
