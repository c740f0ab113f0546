"""Certificates of a fleet: one CA, and one certificate a process, whose common name says its role (see acl).

Keys are EC P-256. A certificate serves both ends of a link, since peers dial and listen. Where it may listen, its
subjectAltName must hold the host that others dial: TLS refuses another, QUIC answers nothing, silently.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from skyfog_core.config.router import TlsConfig
from skyfog_core.errors import ConfigError
from skyfog_core.wire.keys import chunk, service_chunk
from skyfog_router.acl import MAX_NAME_CHARS, common_name

CA_DAYS = 3_650
DAYS = 365
NEAR = timedelta(days=30)  # an expiry that is worth a warning
SKEW = timedelta(minutes=10)  # a machine's clock may be behind the one that made the certificate
LOOPBACK = ("localhost", "127.0.0.1", "::1")
CA_NAME = "ca"
CA_PREFIX = "ca/"  # of a CA's common name; the fleet follows

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Issued:
    """Where a certificate and its key were written."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Facts:
    """What a certificate says."""

    name: str
    hosts: tuple[str, ...]
    is_ca: bool
    not_before: datetime
    not_after: datetime

    def state(self, now: datetime) -> str:
        """`ok`, `expires soon`, `expired` or `not yet valid`."""
        if now >= self.not_after:
            return "expired"
        if now < self.not_before:
            return "not yet valid"
        return "expires soon" if self.not_after - now <= NEAR else "ok"


def make_ca(fleet: str, folder: Path, now: datetime, days: int = CA_DAYS, force: bool = False) -> Issued:
    """A fleet's CA: `ca.pem` and `ca.key` in `folder`. Raises ConfigError, also where they exist and not `force`."""
    name = f"{CA_PREFIX}{chunk('fleet', fleet)}"
    if len(name) > MAX_NAME_CHARS:
        raise ConfigError(f"fleet {fleet!r}: a certificate's name holds {MAX_NAME_CHARS} characters")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        _builder(subject, subject, key.public_key(), key.public_key(), now, now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return _write(folder, CA_NAME, made, key, force)


def issue(
    role: str,
    machine: str,
    folder: Path,
    now: datetime,
    service: str = "",
    days: int = DAYS,
    hosts: Sequence[str] = (),
    force: bool = False,
) -> Issued:
    """A certificate for one process, signed by the CA in `folder` and never longer valid than it.

    The files are `ROLE-MACHINE.pem` and `.key`, or `replica-SERVICE-MACHINE`. `hosts` are names or addresses by which
    others dial the machine, besides its own name and loopback. Raises ConfigError.
    """
    ca, ca_key = _load_ca(folder)
    fleet = _name_of(ca).removeprefix(CA_PREFIX)
    name, stem = common_name(role, fleet, service), stem_of(role, machine, service)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    until = min(now + timedelta(days=days), ca.not_valid_after_utc)
    both_ends = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    alternatives = [_alternative(host) for host in dict.fromkeys((machine, *hosts, *LOOPBACK))]
    made = (
        _builder(subject, ca.subject, key.public_key(), ca_key.public_key(), now, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(both_ends), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return _write(folder, stem, made, key, force)


def stem_of(role: str, machine: str, service: str = "") -> str:
    """What the files of a process are called, without `.pem` and `.key`. Raises ConfigError."""
    return "-".join([role, *([service_chunk(service)] if service else []), chunk("name", machine)])


def facts_of(path: Path) -> Facts:
    """What the first certificate of a PEM file says. Raises ConfigError."""
    made = _certificates(path)[0]
    return Facts(_name_of(made), _hosts_of(made), _is_ca(made), made.not_valid_before_utc, made.not_valid_after_utc)


def check_files(tls: TlsConfig, name: str, now: datetime) -> Facts:
    """The process's certificate, if zenoh can use these files as `name`; it would only time out otherwise.

    Raises ConfigError that says which of `ca`, `certificate` and `key` is at fault, names the file, and why.
    """
    authorities = _named("ca", tls.ca, _certificates)
    chain = _named("certificate", tls.certificate, _certificates)
    key = _named("key", tls.key, _private_key)
    where = f"certificate {tls.certificate}"
    if key.public_key() != chain[0].public_key():
        raise ConfigError(f"key {tls.key}: is not that of {where}")
    facts = facts_of(Path(tls.certificate))
    if facts.state(now) not in {"ok", "expires soon"}:
        raise ConfigError(f"{where}: {_when(facts, now)}")
    if not _is_signed(chain, [made for made in authorities if _is_ca(made)]):
        raise ConfigError(f"{where}: is not signed by ca {tls.ca}")
    if facts.name != name:
        raise ConfigError(f"{where}: is for {facts.name!r}; this process must be {name!r}")
    if not facts.hosts:
        raise ConfigError(f"{where}: has no subjectAltName, without which QUIC answers nothing")
    return facts


def _when(facts: Facts, now: datetime) -> str:
    if facts.state(now) == "expired":
        return f"expired on {facts.not_after:%Y-%m-%d %H:%M} UTC"
    return f"is not valid before {facts.not_before:%Y-%m-%d %H:%M} UTC; is this machine's clock right?"


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    issuer_public: ec.EllipticCurvePublicKey,
    now: datetime,
    until: datetime,
) -> x509.CertificateBuilder:
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_public)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(authority, critical=False)
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError:
        raise ConfigError(f"host {host!r}: neither a host name nor an address") from None


def _load_ca(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    made = _named("ca", str(folder / f"{CA_NAME}.pem"), _certificates)[0]
    key = _named("ca", str(folder / f"{CA_NAME}.key"), _private_key)
    if not _name_of(made).startswith(CA_PREFIX) or not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{folder}: its CA was not made by `skyfog certs ca`")
    return made, key


def _named(what: str, path: str, load: Callable[[Path], T]) -> T:
    try:
        return load(Path(path))
    except ConfigError as error:
        raise ConfigError(f"{what} {error}") from None


def _certificates(path: Path) -> list[x509.Certificate]:
    """All of a PEM file, at least one."""
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError:
        raise ConfigError(f"{path}: holds no PEM certificate") from None


def _private_key(path: Path) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(_read(path), password=None)
    except TypeError:
        raise ConfigError(f"{path}: is encrypted; zenoh reads keys without a password only") from None
    except ValueError:
        raise ConfigError(f"{path}: holds no PEM private key") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None


def _is_signed(chain: list[x509.Certificate], authorities: list[x509.Certificate]) -> bool:
    """Whether each of a chain is signed by the next, and one of them by an authority."""
    for made, issuer in zip(chain, [*chain[1:], None], strict=True):
        if any(_signed_by(made, authority) for authority in authorities):
            return True
        if issuer is None or not _signed_by(made, issuer):
            return False
    return False


def _signed_by(made: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        made.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _name_of(made: x509.Certificate) -> str:
    names = made.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def _hosts_of(made: x509.Certificate) -> tuple[str, ...]:
    try:
        found = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return (*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress)))


def _is_ca(made: x509.Certificate) -> bool:
    try:
        return made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _write(folder: Path, stem: str, made: x509.Certificate, key: ec.EllipticCurvePrivateKey, force: bool) -> Issued:
    issued = Issued(folder / f"{stem}.pem", folder / f"{stem}.key")
    if not force:
        for path in (issued.key, issued.certificate):
            if path.exists():
                raise ConfigError(f"{path}: exists; --force replaces it")
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(issued.key, secret, 0o600)
        _replace(issued.certificate, made.public_bytes(serialization.Encoding.PEM), 0o644)
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from None
    return issued


def _replace(path: Path, data: bytes, mode: int) -> None:
    """Written whole or not at all; nobody else may read a key for even a moment."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
        out.write(data)
    beside.replace(path)
