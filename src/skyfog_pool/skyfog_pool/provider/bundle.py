"""A folder as one archive in S3, from which machines fetch it: the workspace, and a service's workdir.

The same content is the same archive, byte for byte, and its hash is its name: it is uploaded once, by whoever comes
first, and a machine can check what it got.
"""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from skyfog_pool.provider.base import Misconfigured

PART_BYTES = 8 * 1024 * 1024  # beyond it an archive is uploaded in parts; S3 takes none below 5 MB, the last apart
MAX_BYTES = 2 * 1024**3
_GIT_LIMIT_S = 60.0
_NOT_SHIPPED = {".git", ".venv", ".ws", "build", "install", "log", "demo_out", "__pycache__", "node_modules"}


@dataclass(frozen=True, slots=True)
class Bundle:
    """Where an archive is to be had."""

    url: str  # signed; for a limited time
    sha256: str  # in hex


def shipped_files(folder: Path) -> Iterator[Path]:
    """Files that git tracks, as they are now; without git all but caches and what a build makes. Sorted."""
    if (folder / ".git").exists():
        listed = subprocess.run(
            ["git", "-C", str(folder), "ls-files", "-z", "--cached"],
            capture_output=True,
            check=False,
            timeout=_GIT_LIMIT_S,
        )
        if listed.returncode == 0:
            names = sorted(set(listed.stdout.decode().split("\0")) - {""})
            found = (folder / name for name in names)
            yield from (path for path in found if path.is_file() or path.is_symlink())
            return
    for path in sorted(folder.rglob("*")):
        if not _NOT_SHIPPED.intersection(path.relative_to(folder).parts) and (path.is_file() or path.is_symlink()):
            yield path


def pack(folder: Path, out: IO[bytes]) -> str:
    """Write `folder` as tar.gz; returns the SHA-256 of the archive in hex. Raises Misconfigured."""
    if not folder.is_dir():
        raise Misconfigured(f"{folder} is no folder to ship")
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=out, mtime=0, compresslevel=6) as packed,
        tarfile.open(fileobj=cast("IO[bytes]", packed), mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in shipped_files(folder):
            entry = archive.gettarinfo(path, arcname=str(path.relative_to(folder)))
            # Who packed it, and when, is no part of the content.
            entry.uid = entry.gid = entry.mtime = 0
            entry.uname = entry.gname = ""
            entry.mode = 0o755 if entry.mode & 0o100 else 0o644
            if entry.isreg():
                with path.open("rb") as content:
                    archive.addfile(entry, content)
            else:
                archive.addfile(entry)
    if out.tell() > MAX_BYTES:
        raise Misconfigured(f"{folder}: {out.tell() >> 20} MiB packed, at most {MAX_BYTES >> 20}")
    out.seek(0)
    return hashlib.file_digest(out, "sha256").hexdigest()  # type: ignore[arg-type]


class BundleStore:
    """Archives of one pool in one bucket. `s3` is boto3's client; its errors come out as they are."""

    def __init__(self, s3: Any, bucket: str, pool: str) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._prefix = f"skyfog/{pool}/"

    def put(self, folder: Path) -> str:
        """Upload the folder where its like is not there; returns the hash."""
        with tempfile.TemporaryFile(prefix="skyfog_bundle_") as archive:
            sha256 = pack(folder, archive)
            key = self._key(sha256)
            if not self._is_there(key):
                archive.seek(0, 2)
                size = archive.tell()
                archive.seek(0)
                if size <= PART_BYTES:
                    self._put_whole(key, archive.read())
                else:
                    self._put_in_parts(key, archive)
        return sha256

    def link(self, sha256: str, valid_s: int) -> Bundle:
        """A URL that works for `valid_s` seconds, or as long as the credentials that sign it."""
        signed = self._s3.generate_presigned_url(
            "get_object", Params={"Bucket": self._bucket, "Key": self._key(sha256)}, ExpiresIn=valid_s
        )
        return Bundle(signed, sha256)

    def clear(self) -> None:
        """Remove every archive of the pool."""
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix):
            keys = [{"Key": item["Key"]} for item in page.get("Contents", [])]
            if keys:
                self._s3.delete_objects(Bucket=self._bucket, Delete={"Objects": keys, "Quiet": True})

    def _key(self, sha256: str) -> str:
        return f"{self._prefix}{sha256}.tar.gz"

    def _is_there(self, key: str) -> bool:
        try:
            self._s3.head_object(Bucket=self._bucket, Key=key)
        except self._s3.exceptions.ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return False
            raise
        return True

    def _put_whole(self, key: str, content: bytes) -> None:
        try:
            # Only where it is not there: of two controllers that come at once, one writes.
            self._s3.put_object(Bucket=self._bucket, Key=key, Body=content, IfNoneMatch="*")
        except self._s3.exceptions.ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] not in {409, 412}:
                raise

    def _put_in_parts(self, key: str, archive: IO[bytes]) -> None:
        upload = self._s3.create_multipart_upload(Bucket=self._bucket, Key=key)["UploadId"]
        where = {"Bucket": self._bucket, "Key": key, "UploadId": upload}
        try:
            parts: list[dict[str, Any]] = []
            while chunk := archive.read(PART_BYTES):
                number = len(parts) + 1
                answer = self._s3.upload_part(**where, PartNumber=number, Body=chunk)
                parts.append({"PartNumber": number, "ETag": answer["ETag"]})
            # Without a condition: two that come at once write the same bytes.
            self._s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
        except BaseException:
            # Parts of an upload that nobody ends are stored and paid for.
            self._s3.abort_multipart_upload(**where)
            raise
