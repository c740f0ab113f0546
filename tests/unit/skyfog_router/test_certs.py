"""Certificates: what is in them, who may read them, and every way in which files may not fit."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from skyfog_core.config.router import TlsConfig
from skyfog_core.errors import ConfigError
from skyfog_router.certs import Issued, check_files, facts_of, issue, make_ca

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_ca("f", tmp_path, NOW, days=100)
    return tmp_path


def tls(folder: Path, issued: Issued) -> TlsConfig:
    return TlsConfig(ca=str(folder / "ca.pem"), certificate=str(issued.certificate), key=str(issued.key))


def test_a_certificate_says_who_may_do_what_until_when(folder: Path) -> None:
    issued = issue("replica", "gpu0", folder, NOW, "/arm/detect", days=10, hosts=["10.0.0.5", "gpu0.example.org"])
    assert issued.certificate.name == "replica-arm.detect-gpu0.pem"
    facts = check_files(tls(folder, issued), "replica/f/arm.detect", NOW)
    assert facts.name == "replica/f/arm.detect"
    assert set(facts.hosts) == {"gpu0", "10.0.0.5", "gpu0.example.org", "localhost", "127.0.0.1", "::1"}
    assert not facts.is_ca
    assert facts.not_after == NOW + 10 * DAY
    assert facts.not_before < NOW, "a machine's clock may be slow"


def test_a_certificate_may_serve_both_ends_and_sign_nothing(folder: Path) -> None:
    made = x509.load_pem_x509_certificate(issue("robot", "r", folder, NOW).certificate.read_bytes())
    usage = made.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert not usage.key_cert_sign
    purposes = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(purposes) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert made.public_key().curve.name == "secp256r1"
    assert facts_of(folder / "ca.pem").is_ca


def test_keys_are_for_their_owner_only(folder: Path) -> None:
    issue("robot", "r", folder, NOW)
    keys = list(folder.glob("*.key"))
    assert len(keys) == 2
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}


def test_no_certificate_outlives_its_ca(folder: Path) -> None:
    assert facts_of(issue("robot", "r", folder, NOW, days=1_000).certificate).not_after == NOW + 100 * DAY


def test_nothing_is_replaced_unless_that_is_wanted(folder: Path) -> None:
    issued = issue("robot", "r", folder, NOW)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ConfigError, match=r"robot-r\.key: exists; --force"):
        issue("robot", "r", folder, NOW)
    with pytest.raises(ConfigError, match=r"ca\.key: exists"):
        make_ca("f", folder, NOW)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    issue("robot", "r", folder, NOW, force=True)
    assert issued.key.read_bytes() != before[issued.key]
    check_files(tls(folder, issued), "robot/f", NOW)


@pytest.mark.parametrize(
    ("days", "state"), [(0, "ok"), (65, "ok"), (75, "expires soon"), (101, "expired"), (-1, "not yet valid")]
)
def test_an_expiry_is_told_in_time(folder: Path, days: int, state: str) -> None:
    facts = facts_of(issue("robot", "r", folder, NOW, days=100).certificate)
    assert facts.state(NOW + days * DAY) == state


def test_a_file_with_two_cas_trusts_both_while_one_replaces_the_other(folder: Path, tmp_path: Path) -> None:
    old = issue("robot", "r", folder, NOW)
    new_folder = tmp_path / "new"
    make_ca("f", new_folder, NOW)
    both = tmp_path / "both.pem"
    both.write_bytes((folder / "ca.pem").read_bytes() + (new_folder / "ca.pem").read_bytes())
    for issued in (old, issue("robot", "r", new_folder, NOW)):
        check_files(TlsConfig(ca=str(both), certificate=str(issued.certificate), key=str(issued.key)), "robot/f", NOW)


def refused(config: TlsConfig, name: str = "robot/f", now: datetime = NOW) -> str:
    with pytest.raises(ConfigError) as caught:
        check_files(config, name, now)
    return str(caught.value)


@pytest.mark.parametrize("what", ["ca", "certificate", "key"])
def test_a_file_that_is_missing_or_no_pem_is_named(folder: Path, what: str) -> None:
    good = tls(folder, issue("robot", "r", folder, NOW))
    missing = good.model_copy(update={what: "/nowhere/x.pem"})
    assert refused(missing) == f"{what} /nowhere/x.pem: No such file or directory"
    (folder / "junk").write_bytes(b"\xff\x00 junk")
    junk = refused(good.model_copy(update={what: str(folder / "junk")}))
    assert junk.startswith(f"{what} {folder}/junk: holds no PEM")
    swapped = {"ca": good.key, "certificate": good.key, "key": good.ca}[what]
    assert refused(good.model_copy(update={what: swapped})).startswith(f"{what} {swapped}: holds no PEM")
    assert refused(good.model_copy(update={what: str(folder)})) == f"{what} {folder}: Is a directory"


def test_a_key_with_a_password_is_refused(folder: Path) -> None:
    issued = issue("robot", "r", folder, NOW)
    key = serialization.load_pem_private_key(issued.key.read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"secret")
    issued.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    assert "is encrypted" in refused(tls(folder, issued))


def test_files_that_do_not_belong_together_are_refused(folder: Path, tmp_path: Path) -> None:
    good = tls(folder, issue("robot", "r", folder, NOW))
    other = tls(folder, issue("robot", "s", folder, NOW))
    make_ca("f", tmp_path / "strange", NOW)
    assert refused(good.model_copy(update={"key": other.key})).startswith(
        f"key {other.key}: is not that of certificate"
    )
    strange = f"{tmp_path}/strange/ca.pem"
    assert refused(good.model_copy(update={"ca": strange})).endswith(f"is not signed by ca {strange}")
    no_ca = good.model_copy(update={"ca": good.certificate})
    assert "is not signed by ca" in refused(no_ca)


def test_a_certificate_out_of_its_time_or_place_is_refused(folder: Path) -> None:
    config = tls(folder, issue("robot", "r", folder, NOW, days=10))
    where = f"certificate {config.certificate}"
    assert refused(config, now=NOW + 10 * DAY) == f"{where}: expired on 2030-01-12 03:04 UTC"
    assert refused(config, now=NOW - DAY).startswith(f"{where}: is not valid before 2030-01-02 02:54 UTC")
    assert refused(config, name="router/f") == f"{where}: is for 'robot/f'; this process must be 'router/f'"


@pytest.mark.parametrize(
    ("role", "machine", "service", "hosts", "why"),
    [
        ("robot", "a b", "", [], "name 'a b'"),
        ("robot", "../x", "", [], "name '../x'"),
        ("robot", "r", "", ["münchen"], "host 'münchen'"),
        ("replica", "r", "", [], "its service"),
        ("boss", "r", "", [], "role 'boss'"),
    ],
)
def test_what_cannot_be_certified_leaves_nothing(
    folder: Path, role: str, machine: str, service: str, hosts: list[str], why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        issue(role, machine, folder, NOW, service, hosts=hosts)
    assert {path.name for path in folder.iterdir()} == {"ca.pem", "ca.key"}


def test_a_ca_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ca .*/ca\.pem: No such file"):
        issue("robot", "r", tmp_path, NOW)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=str(tmp_path / "file")):
        make_ca("f", tmp_path / "file", NOW)
