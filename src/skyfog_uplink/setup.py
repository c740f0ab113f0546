from setuptools import find_packages, setup

package_name = "skyfog_uplink"
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
    description="A car's thin uplink shared between its services so that every deadline holds (TURBO)",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "allocator = skyfog_uplink.nodes.allocator:main",
            "car_client = skyfog_uplink.nodes.car_client:main",
            "shaper = skyfog_uplink.nodes.shaper:main",
        ]
    },
    extras_require={"test": ["pytest"]},
)
