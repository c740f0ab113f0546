import importlib.util
import sys
from pathlib import Path

from setuptools import find_packages, setup

package_name = "skyfog_inference"
setup(
    name=package_name,
    version="0.1.0",
    packages=find_packages(include=[package_name, f"{package_name}.*"]),
    package_data={package_name: ["py.typed", "attention/kernel/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{package_name}"]),
        (f"share/{package_name}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="The Skyfog founders",
    maintainer_email="skyfog@example.org",
    description="Language models on few or small accelerators (NEO, MoE-Lightning)",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "generate = skyfog_inference.nodes.generate:main",
            "generate_action = skyfog_inference.nodes.generate_action:main",
        ]
    },
    extras_require={"test": ["pytest"]},
)


def build_kernels() -> None:
    """Under colcon, compile the attention kernel into the install tree; where there is no compiler, torch stands in."""
    prefix = Path(sys.prefix)  # colcon sets it to the install folder for the command that installs
    installs = {"develop", "install"} & set(sys.argv) and hasattr(sys, "real_prefix")
    if not installs:
        return
    path = Path(__file__).resolve().parent / package_name / "attention" / "build.py"
    spec = importlib.util.spec_from_file_location("kernel_build", path)
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    for isa in build.ISAS:
        try:
            build.build(isa, prefix / build.SHARE)
        except build.NoKernel as error:
            print(f"attention kernel for {isa}: {error}")  # noqa: T201 - colcon logs it


build_kernels()
