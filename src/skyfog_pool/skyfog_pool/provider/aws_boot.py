"""What a new machine runs first: a shell script for cloud-init that ends in the runner as a systemd unit.

The script runs as root, once; the runner and the replica run as the user `skyfog`. Where a step fails, the machine says
so on its console and shuts down, which terminates it: it does not cost money until someone notices.
"""

from __future__ import annotations

import gzip
import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from skyfog_pool.provider.base import Misconfigured
from skyfog_pool.provider.bundle import Bundle

MAX_BYTES = 16_384  # EC2's limit, before base64
RUNNER = "python -m skyfog_pool.runner"

_HEAD = """\
#!/bin/bash
set -euo pipefail
umask 022
fail() {
  echo "skyfog: the machine's set-up failed at line $1" | tee /dev/console >&2 || true
  shutdown -h now
}
trap 'fail $LINENO' ERR
export DEBIAN_FRONTEND=noninteractive HOME=/root
id -u skyfog >/dev/null 2>&1 || useradd --create-home --shell /bin/bash skyfog
mkdir -p {root}
"""

_FETCH = """\
curl --fail --silent --show-error --location --retry 8 --retry-all-errors --connect-timeout 10 --max-time 900 \\
  --output {root}/{name}.tar.gz {url}
echo {sum} | sha256sum --check --quiet
mkdir -p {root}/{name}
tar -xzf {root}/{name}.tar.gz -C {root}/{name} --no-same-owner
rm {root}/{name}.tar.gz
"""

# Debian 12 has the Python that the wheels of ROS 2 need; on Ubuntu 24.04 ROS 2 comes from its own apt source.
_SET_UP = """\
apt-get update --quiet --quiet
apt-get install --quiet --quiet --yes curl ca-certificates git
. /etc/os-release
if [ "$ID" = ubuntu ] && [ ! -d /opt/ros/jazzy ]; then
  curl --fail --silent --show-error --location --retry 8 --output /usr/share/keyrings/ros-archive-keyring.gpg \\
    https://raw.githubusercontent.com/ros/rosdistro/master/ros.key
  echo "deb [signed-by=/usr/share/keyrings/ros-archive-keyring.gpg] http://packages.ros.org/ros2/ubuntu \\
$UBUNTU_CODENAME main" >/etc/apt/sources.list.d/ros2.list
  apt-get update --quiet --quiet
  apt-get install --quiet --quiet --yes ros-jazzy-ros-base ros-jazzy-rmw-fastrtps-cpp python3-colcon-common-extensions
fi
"""

_BUILD = """\
(cd {root}/workspace && ./ws setup && ./ws build)
chown -R skyfog:skyfog {root}
"""

_DOCKER = """\
command -v docker >/dev/null || {{ apt-get update --quiet --quiet && apt-get install --quiet --quiet --yes docker.io; }}
usermod -aG docker skyfog
docker pull --quiet {image}
chown -R skyfog:skyfog {root}
"""

_UNIT = """\
[Unit]
Description=Skyfog replica
Wants=network-online.target
After=network-online.target

[Service]
User=skyfog
ExecStart=/bin/bash {root}/start
Restart=on-failure
RestartSec=2
KillMode=mixed
TimeoutStopSec=60
StandardOutput=journal+console
StandardError=journal+console

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, slots=True)
class Boot:
    """What a machine is to run. Either `workspace` or `image` is set."""

    environment: Mapping[str, str]
    workspace: Bundle | None = None
    workdir: Bundle | None = None
    image: str = ""  # a docker image whose entry point is the runner
    root: str = "/opt/skyfog"
    units: str = "/etc/systemd/system"


def user_data(boot: Boot) -> bytes:
    """The script, as EC2 takes it before base64; packed where it would be too long. Raises Misconfigured."""
    text = script(boot).encode()
    if len(text) > MAX_BYTES:
        text = gzip.compress(text, mtime=0)  # cloud-init unpacks it
    if len(text) > MAX_BYTES:
        raise Misconfigured(f"envs, setup and run are {len(text)} bytes even when packed, at most {MAX_BYTES}")
    return text


def script(boot: Boot) -> str:
    """The same for the same `boot`."""
    root = shlex.quote(boot.root)
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in sorted(boot.environment.items()))
    parts = [
        _HEAD.replace("{root}", root),
        _file(f"{boot.root}/environment", exports, "0600"),
        _file(f"{boot.root}/start", _start(boot), "0755"),
    ]
    if not boot.image:
        parts.append(_SET_UP)
    for name, bundle in (("workspace", boot.workspace), ("workdir", boot.workdir)):
        if bundle is not None:
            checksum = shlex.quote(f"{bundle.sha256}  {boot.root}/{name}.tar.gz")
            parts.append(_FETCH.format(root=root, name=name, url=shlex.quote(bundle.url), sum=checksum))
    if boot.image:
        parts.append(_DOCKER.format(root=root, image=shlex.quote(boot.image)))
    else:
        parts.append(_BUILD.format(root=root))
    parts += [
        _file(f"{boot.units}/skyfog-replica.service", _UNIT.format(root=boot.root), "0644"),
        "systemctl daemon-reload\nsystemctl enable --now skyfog-replica.service\n",
    ]
    return "".join(parts)


def _start(boot: Boot) -> str:
    root = shlex.quote(boot.root)
    head = f"#!/bin/bash\nset -eu\n. {root}/environment\n"
    if boot.image:
        names = " ".join(f"--env {name}" for name in sorted(boot.environment))
        mount = f"--volume {root}/workdir:/workdir --workdir /workdir " if boot.workdir is not None else ""
        return f"{head}exec docker run --rm --init --network host {mount}{names} {shlex.quote(boot.image)}\n"
    folder = "workdir" if boot.workdir is not None else "workspace"
    return f"{head}cd {root}/{folder}\nexec {root}/workspace/ws run {RUNNER}\n"


def _file(path: str, content: str, mode: str) -> str:
    """Shell that writes a file; the mark that ends it cannot stand in the content, being its hash."""
    mark = f"END_{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    where = shlex.quote(path)
    return f"install -m {mode} /dev/null {where}\ncat >{where} <<'{mark}'\n{content}{mark}\n"
