from collections.abc import Iterator
from pathlib import Path

from setuptools import find_packages, setup

package_name = "skyfog_bringup"


def installed(folder: str, *suffixes: str) -> Iterator[tuple[str, list[str]]]:
    """Files below `folder`, a link to the top level, each into the same place under share/<package>/."""
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file() and path.name.endswith(suffixes))
    for path in files:
        yield f"share/{package_name}/{path.parent}", [str(path)]


setup(
    name=package_name,
    version="0.1.0",
    packages=find_packages(include=[package_name, f"{package_name}.*"]),
    package_data={package_name: ["py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{package_name}"]),
        (f"share/{package_name}", ["package.xml"]),
        # console_scripts go to lib/<package>, as ROS wants; colcon puts bin/ on PATH.
        ("bin", ["bin/skyfog"]),
        *installed("launch", ".launch.py"),
        *installed("config", ".yaml", ".xml"),
        *installed("sim_worlds", ".sdf", ".obj", ".csv", ".xml", ".sumocfg", ".config"),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="The Skyfog founders",
    maintainer_email="skyfog@example.org",
    description="Launch files, configuration and commands",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "camera = skyfog_bringup.nodes.camera:main",
            "skyfog = skyfog_bringup.cli:main",
        ],
        "ros2cli.command": ["skyfog = skyfog_bringup.ros2_verb:SkyfogCommand"],
    },
    extras_require={"test": ["pytest"]},
)
