from setuptools import find_packages, setup

package_name = "skyfog_inference"
setup(
    name=package_name,
    version="0.1.0",
    packages=find_packages(include=[package_name, f"{package_name}.*"]),
    package_data={package_name: ["py.typed"]},
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
