from pathlib import Path

from setuptools import find_packages, setup

package_name = "skyfog_planning"
shared = [
    (f"share/{package_name}/{folder}", sorted(str(file) for file in folder.iterdir() if file.is_file()))
    for folder in [*sorted(Path("robots").iterdir()), Path("problems")]
    if folder.is_dir()
]
setup(
    name=package_name,
    version="0.1.0",
    packages=find_packages(include=[package_name, f"{package_name}.*"]),
    package_data={package_name: ["py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{package_name}"]),
        (f"share/{package_name}", ["package.xml"]),
        *shared,
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="The Skyfog founders",
    maintainer_email="skyfog@example.org",
    description="Motion planning service",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "pick_place = skyfog_planning.nodes.pick_place:main",
            "plan = skyfog_planning.nodes.plan:main",
        ]
    },
    extras_require={"test": ["pytest"]},
)
