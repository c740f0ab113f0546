"""The bundle on its way through S3, and the script that turns a machine into a replica, run for real in a folder."""

from __future__ import annotations

import base64
import os
import random
import subprocess
import tarfile
import tempfile
import uuid
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyfog_pool.provider.aws import make
from skyfog_pool.provider.aws_boot import Boot, script
from skyfog_pool.provider.base import Order
from skyfog_pool.provider.bundle import Bundle, BundleStore, pack
from support.aws import Shim, spec_of, tiny_workspace

LIMIT_S = 30


@pytest.fixture
def bucket(aws: Shim) -> str:
    name = f"b-{uuid.uuid4().hex}"
    boto3.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    return name


def packed(folder: Path) -> tuple[str, list[str]]:
    """Hash and names."""
    with tempfile.TemporaryFile() as out:
        sha256 = pack(folder, out)
        out.seek(0)
        with tarfile.open(fileobj=out) as archive:
            return sha256, archive.getnames()


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, timeout=LIMIT_S)


def test_only_what_git_tracks_is_shipped_as_it_is_now(tmp_path: Path) -> None:
    folder = tiny_workspace(tmp_path / "ws")
    git(folder, "init", "--quiet")
    git(folder, "add", "ws", "README")
    (folder / "secret.key").write_text("private")
    assert packed(folder)[1] == ["README", "ws"]
    before = packed(folder)[0]
    (folder / "README").write_text("changed")
    assert packed(folder)[0] != before
    (folder / "README").unlink()
    assert packed(folder)[1] == ["ws"]


def test_without_git_all_but_caches_and_builds_is_shipped(tmp_path: Path) -> None:
    folder = tiny_workspace(tmp_path / "ws")
    for name in ("build/x", ".venv/lib/y", "src/__pycache__/z", "src/kept"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    assert packed(folder)[1] == ["README", "src/kept", "ws"]


def test_the_same_content_has_the_same_name_whoever_packs_it_and_when(tmp_path: Path) -> None:
    one, other = tiny_workspace(tmp_path / "one"), tiny_workspace(tmp_path / "other")
    os.utime(other / "README", (1, 1))
    (other / "README").chmod(0o600)
    assert packed(one)[0] == packed(other)[0]
    (other / "README").chmod(0o700)
    assert packed(one)[0] != packed(other)[0]  # whether it can be run is content


def test_a_bundle_is_uploaded_once(aws: Shim, bucket: str, tmp_path: Path) -> None:
    folder = tiny_workspace(tmp_path / "ws")
    store = BundleStore(boto3.client("s3"), bucket, "p")
    sha256 = store.put(folder)
    puts = aws.calls("PUT")
    assert BundleStore(boto3.client("s3"), bucket, "p").put(folder) == sha256
    assert aws.calls("PUT") == puts
    assert httpx.get(store.link(sha256, 60).url).status_code == 200


def test_of_two_that_upload_at_once_both_are_content(aws: Shim, bucket: str, tmp_path: Path) -> None:
    folder = tiny_workspace(tmp_path / "ws")
    store = BundleStore(boto3.client("s3"), bucket, "p")
    sha256 = store.put(folder)
    store._is_there = lambda _key: False  # type: ignore[method-assign]  # as it was when the other looked
    assert store.put(folder) == sha256


def test_a_large_bundle_goes_in_parts_and_comes_whole(aws: Shim, bucket: str, tmp_path: Path) -> None:
    folder = tiny_workspace(tmp_path / "ws")
    (folder / "noise").write_bytes(random.Random(1).randbytes(9 * 1024 * 1024))
    store = BundleStore(boto3.client("s3"), bucket, "p")
    sha256 = store.put(folder)
    (tmp_path / "got").write_bytes(httpx.get(store.link(sha256, 60).url).content)
    with tarfile.open(tmp_path / "got") as archive:
        assert archive.extractfile("noise").read() == (folder / "noise").read_bytes()  # type: ignore[union-attr]


def test_an_upload_that_fails_leaves_no_parts(aws: Shim, bucket: str, tmp_path: Path) -> None:
    folder = tiny_workspace(tmp_path / "ws")
    (folder / "noise").write_bytes(random.Random(1).randbytes(9 * 1024 * 1024))
    s3 = boto3.client("s3")

    def fail(**_: Any) -> None:
        raise OSError("the link is gone")

    s3.upload_part = fail
    with pytest.raises(OSError, match="the link is gone"):
        BundleStore(s3, bucket, "p").put(folder)
    assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


def test_only_the_pools_own_bundles_are_cleared(aws: Shim, bucket: str, tmp_path: Path) -> None:
    folder = tiny_workspace(tmp_path / "ws")
    s3 = boto3.client("s3")
    BundleStore(s3, bucket, "p").put(folder)
    BundleStore(s3, bucket, "p2").put(folder)
    BundleStore(s3, bucket, "p").clear()
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert [key.split("/")[1] for key in keys] == ["p2"]


# -- the script on the machine ----------------------------------------------------------------------------------------

STUBS = ("id", "useradd", "chown", "systemctl", "shutdown", "apt-get", "docker", "usermod", "tee")


def run(boot: Boot, folder: Path) -> subprocess.CompletedProcess[str]:
    """The script with all that needs a machine of its own left out: what was called stands in `calls`."""
    stubs = folder / "stubs"
    stubs.mkdir()
    for name in STUBS:
        stub = stubs / name
        stub.write_text(f'#!/bin/sh\necho "{name} $*" >>{folder}/calls\n')
        stub.chmod(0o755)
    (folder / "units").mkdir()
    (folder / "script").write_text(script(boot))
    env = {**os.environ, "PATH": f"{stubs}:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", str(folder / "script")], env=env, check=False, capture_output=True, text=True, timeout=LIMIT_S
    )


def test_a_machine_fetches_its_bundle_sets_it_up_and_starts_the_runner(aws: Shim, bucket: str, tmp_path: Path) -> None:
    store = BundleStore(boto3.client("s3"), bucket, "p")
    workspace = store.link(store.put(tiny_workspace(tmp_path / "ws")), 60)
    root = tmp_path / "opt sky"
    boot = Boot({"GREETING": 'it\'s "quoted" $HOME'}, workspace, root=str(root), units=str(tmp_path / "units"))
    done = run(boot, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (root / "workspace" / "calls").read_text().splitlines() == ["ws setup", "ws build"]
    calls = (tmp_path / "calls").read_text()
    assert "systemctl enable --now skyfog-replica.service" in calls
    assert "shutdown" not in calls
    assert f"chown -R skyfog:skyfog {root}" in calls
    assert (root / "environment").stat().st_mode & 0o777 == 0o600
    unit = (tmp_path / "units" / "skyfog-replica.service").read_text()
    assert "User=skyfog" in unit
    subprocess.run(["bash", str(root / "start")], check=True, timeout=LIMIT_S)
    assert (root / "workspace" / "calls").read_text().splitlines()[-1] == "ws run python -m skyfog_pool.runner"


def test_a_bundle_that_is_not_what_was_packed_ends_the_machine(aws: Shim, bucket: str, tmp_path: Path) -> None:
    store = BundleStore(boto3.client("s3"), bucket, "p")
    link = store.link(store.put(tiny_workspace(tmp_path / "ws")), 60)
    boot = Boot({}, Bundle(link.url, "0" * 64), root=str(tmp_path / "opt"), units=str(tmp_path / "units"))
    run(boot, tmp_path)
    assert "shutdown -h now" in (tmp_path / "calls").read_text()
    assert "systemctl" not in (tmp_path / "calls").read_text()


def test_an_image_is_pulled_and_run_with_the_environment(tmp_path: Path) -> None:
    root = tmp_path / "opt"
    boot = Boot(
        {"A": "1", "B": "x y"}, image="registry.example/replica:1", root=str(root), units=str(tmp_path / "units")
    )
    done = run(boot, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "docker pull --quiet registry.example/replica:1" in (tmp_path / "calls").read_text()


NAMES = st.from_regex(r"[A-Z_][A-Z0-9_]{0,10}", fullmatch=True).filter(lambda name: name not in {"_", "UID", "PATH"})
VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)


@settings(max_examples=25)
@given(st.dictionaries(NAMES.map(lambda name: f"SKYFOG_{name}"), VALUES, max_size=4))
def test_the_environment_arrives_as_it_was_ordered(environment: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        boot = Boot(environment, image="i", root=str(folder / "opt"), units=str(folder / "units"))
        done = run(boot, folder)
        assert done.returncode == 0, done.stderr
        told = subprocess.run(
            ["bash", "-c", f". {folder}/opt/environment; env -0"],
            env={"PATH": os.environ["PATH"]},
            check=True,
            capture_output=True,
            timeout=LIMIT_S,
        ).stdout.decode()
        had = dict(line.split("=", 1) for line in told.split("\0") if line)
        assert {key: had.get(key) for key in environment} == environment


@pytest.mark.parametrize("types", [["m6i.large"], ["m6i.large", "m7i.large"]], ids=["one type", "a fleet"])
def test_a_machine_of_the_provider_gets_this_script(aws: Shim, tmp_path: Path, types: list[str]) -> None:
    pool = f"t{uuid.uuid4().hex[:8]}"
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "model.txt").write_text("weights")
    resources = {"instance_type": None, "any_of": [{"instance_type": name} for name in types]}
    spec = spec_of(resources, workspace=str(tiny_workspace(tmp_path / "ws")))
    provider = make(spec.model_copy(update={"workdir": str(mine)}), pool)
    try:
        machine = provider.launch(Order(pool, 1, 1, uuid.uuid4().hex, "us-west-2a", "spot", {"SKYFOG_RUN": "true"}))
        text = base64.b64decode(aws.machines(pool)[0]["user_data"]).decode()
        provider.terminate(machine.id)
    finally:
        provider.close()
    assert text.startswith("#!/bin/bash\n")
    assert "export SKYFOG_RUN=true" in text
    assert "export SKYFOG_NOTICE_SOURCE=aws" in text
    assert "export SKYFOG_RUNNER_LISTEN=0.0.0.0:8700" in text
    assert text.count("sha256sum --check") == 2
    assert "cd /opt/skyfog/workdir\nexec /opt/skyfog/workspace/ws run" in text
