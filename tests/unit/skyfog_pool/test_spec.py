"""Service files: what is taken, what is refused, and what is told then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from skyfog_core.errors import ConfigError
from skyfog_pool import report, spec
from skyfog_pool.lifecycle import State
from skyfog_pool.policy.market import Zone
from skyfog_pool.provider.table import provider_name
from skyfog_pool.store import Row

# SkyPilot's documentation, "SkyServe: Serving Models", shortened
PASTED = """
service:
  readiness_probe:
    path: /v1/chat/completions
    post_data:
      model: $MODEL_NAME
      messages: [{role: user, content: Hello!}]
      max_tokens: 1
    initial_delay_seconds: 1800
  replica_policy:
    min_replicas: 2
    max_replicas: 10
    target_qps_per_replica: 2.5
    dynamic_ondemand_fallback: true
    upscale_delay_seconds: 300
    downscale_delay_seconds: 1200
resources:
  ports: 8080
  use_spot: true
  disk_size: 256
  any_of:
    - {infra: aws/us-east-1, accelerators: L4:1}
    - {infra: aws/us-west-2, accelerators: "A10G:1"}
envs:
  MODEL_NAME: meta-llama/Llama-3.1-8B-Instruct
setup: pip install vllm
run: vllm serve $MODEL_NAME --port 8080
"""


def write(folder: Path, changes: dict[str, Any] | None = None, name: str = "my_service.yaml") -> Path:
    values: dict[str, Any] = {
        "service": {"replica_policy": {"min_replicas": 2}},
        "resources": {"use_spot": True},
        "run": "serve",
    }
    path = folder / name
    path.write_text(yaml.safe_dump(values | (changes or {})))
    return path


def test_a_file_of_skyserve_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "llama.yaml"
    path.write_text(PASTED)
    loaded = spec.load(path)
    assert loaded.name == "llama"
    assert provider_name(loaded) == "aws"
    assert loaded.service.replica_policy.most == 10


def test_the_name_is_given_or_in_the_file_or_the_files_own(tmp_path: Path) -> None:
    assert spec.load(write(tmp_path)).name == "my-service"
    assert spec.load(write(tmp_path), name="other").name == "other"
    assert spec.load(write(tmp_path, {"name": "inside"})).name == "inside"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"services": {}}, "services: unknown key; did you mean 'service'"),
        ({"service": {"replica_policy": {"min_replica": 2}}}, "did you mean 'min_replicas'"),
        (
            {"service": {"replica_policy": {"min_replicas": 3, "max_replicas": 2}}},
            "max_replicas 2 is below min_replicas",
        ),
        ({"service": {"replica_policy": {"max_replicas": 9}}}, "nothing says when to scale"),
        ({"service": {"replica_policy": {"spot_placer": "dynamic"}}}, "spot_placer"),
        ({"service": {"replicas": 2, "replica_policy": {"min_replicas": 3}}}, "exclude each other"),
        ({"resources": {"infra": "aws/us-east-1", "region": "us-east-1"}}, "infra says cloud, region and zone already"),
        ({"provider": "aws", "resources": {"infra": "gcp/us-central1"}}, "provider aws has no cloud 'gcp'"),
        ({"envs": {"HF_TOKEN": None}}, "envs.HF_TOKEN: has no value"),
        ({"envs": {"SKYFOG_ZONE": "x"}}, "names that begin with SKYFOG_ are set by the pool"),
        ({"workdir": "nowhere"}, "workdir: nothing is at"),
        ({"file_mounts": {"/model": "./nowhere"}}, "file_mounts./model: nothing is at"),
        ({"skyfog": {"fleet": "a b"}}, "fleet 'a b'"),
        ({"skyfog": {"tls": {"ca": "ca.pem"}}}, "ca, certificate and key go together"),
        ({"skyfog": {"tls": {"ca": "a", "certificate": "b", "key": "c"}}}, "skyfog.tls.ca: nothing is at"),
        ({"skyfog": {"service": "1/x"}}, "service '1/x': not a ROS name"),
        ({"name": "Not A Name"}, "name"),
    ],
)
def test_what_cannot_be_is_refused_with_file_and_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], told: str
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    path = write(tmp_path, changes)
    with pytest.raises(ConfigError) as error:
        spec.load(path)
    assert str(path) in str(error.value)
    assert told in str(error.value)


def test_a_file_that_is_not_there_or_no_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: No such file"):
        spec.load(tmp_path / "absent.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    with pytest.raises(ConfigError, match=r"broken\.yaml: is not YAML"):
        spec.load(broken)


def test_an_empty_env_is_taken_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_1")
    assert spec.load(write(tmp_path, {"envs": {"HF_TOKEN": None, "N": 3}})).envs == {"HF_TOKEN": "hf_1", "N": "3"}


def test_paths_are_those_of_the_files_folder(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    loaded = spec.load(write(tmp_path, {"workdir": "code", "file_mounts": {"/data": "s3://bucket/data"}}))
    assert loaded.workdir == str(tmp_path / "code")
    assert loaded.file_mounts == {"/data": "s3://bucket/data"}


def test_certificates_are_found_from_wherever_the_controller_runs(tmp_path: Path) -> None:
    names = {"ca": "ca.pem", "certificate": "c.pem", "key": "c.key"}
    for name in names.values():
        (tmp_path / name).touch()
    loaded = spec.load(write(tmp_path, {"skyfog": {"fleet": "f", "tls": names}}))
    assert dict(loaded.skyfog.tls) == {key: str(tmp_path / name) for key, name in names.items()}
    assert loaded.skyfog.fleet == "f"


def test_zones_and_regions_that_the_provider_lacks_are_named(tmp_path: Path) -> None:
    zones = [Zone("us-west-2a", "us-west-2", "aws"), Zone("us-west-2b", "us-west-2", "aws")]
    path = write(tmp_path, {"resources": {"infra": "aws/us-west-2/us-west-2d"}})
    with pytest.raises(ConfigError, match=r"no zone 'us-west-2d'.*known: us-west-2a, us-west-2b"):
        spec.check_zones(path, spec.load(path), zones)
    path = write(tmp_path, {"resources": {"infra": "aws/us-wset-2"}})
    with pytest.raises(ConfigError, match=r"no region 'us-wset-2'; did you mean 'us-west-2'"):
        spec.check_zones(path, spec.load(path), zones)
    path = write(tmp_path, {"resources": {"infra": "aws/us-west-2/us-west-2b"}})
    spec.check_zones(path, spec.load(path), zones)
    with pytest.raises(ConfigError, match="no zone that they allow"):
        spec.check_zones(path, spec.load(path), [])


@pytest.mark.parametrize(
    ("changes", "rolls"),
    [
        ({"service": {"replica_policy": {"min_replicas": 5}}}, False),
        ({"service": {"readiness_probe": "/other"}}, False),
        ({"resources": {"use_spot": False}}, False),
        ({"run": "serve --newer"}, True),
        ({"setup": "pip install x"}, True),
        ({"envs": {"A": "1"}}, True),
        ({"resources": {"use_spot": True, "instance_type": "g5.xlarge"}}, True),
        ({"skyfog": {"fleet": "other"}}, True),
    ],
)
def test_what_runs_decides_whether_it_rolls_out(tmp_path: Path, changes: dict[str, Any], rolls: bool) -> None:
    old, new = spec.load(write(tmp_path)), spec.load(write(tmp_path, changes))
    assert (spec.runs_hash(old) != spec.runs_hash(new)) == rolls


def test_a_stored_spec_is_the_same_spec(tmp_path: Path) -> None:
    path = tmp_path / "llama.yaml"
    path.write_text(PASTED)
    loaded = spec.load(path)
    assert spec.parse_stored(spec.to_store(loaded)) == loaded


def test_a_machine_is_told_who_it_is(tmp_path: Path) -> None:
    loaded = spec.load(write(tmp_path, {"envs": {"A": 1}, "name": "arm-detect"}))
    row = Row(7, "t", 2, "zone-a", "spot", State.PENDING, "because", 0.0)
    told = spec.order_environment(loaded, "arm-detect", row, 0.25)
    assert told["A"] == "1"
    assert told[report.NAME] == "arm-detect-7"
    assert told[report.SERVICE] == "/arm_detect"
    assert (told[report.ZONE], told[report.VERSION], told[report.PRICE]) == ("zone-a", "2", "0.25")
    assert told[report.COMMAND] == "serve"


@pytest.mark.parametrize(
    ("skyfog", "told"),
    [
        ({}, ""),
        ({"connect": ["tcp/10.0.0.5:7447", "tcp/10.0.0.6:7447"]}, "tcp/10.0.0.5:7447,tcp/10.0.0.6:7447"),
        ({"connect": ["tcp/127.0.0.1:7447"], "replicas_connect": ["tcp/203.0.113.7:7447"]}, "tcp/203.0.113.7:7447"),
    ],
)
def test_a_machine_is_told_where_its_fleet_is(tmp_path: Path, skyfog: dict[str, object], told: str) -> None:
    loaded = spec.load(write(tmp_path, {"skyfog": skyfog, "run": ""}))
    row = Row(7, "t", 2, "zone-a", "spot", State.PENDING, "because", 0.0)
    environment = spec.order_environment(loaded, "detect", row, 0.25)
    assert environment[report.CONNECT] == told
    assert f'connect:="${report.CONNECT}"' in environment[report.COMMAND]
