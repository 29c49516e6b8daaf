"""Archives of evidence: a ZIP with the SHA-256 of each file, and an Ed25519 signature (RFC 8032) over these.

The signature is openssl's, the hashes are sha256sum's, so that nobody needs this project to verify them. The same files
and the same key make the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from typing import TYPE_CHECKING

from ansible.module_utils.runbook.errors import RunbookError
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SUMS, SIGNATURE, PUBLIC = "SHA256SUMS", "SHA256SUMS.sig", "public.pem"
#: Nothing that lies in an archive has a time of its own.
_TIME = (1980, 1, 1, 0, 0, 0)
#: Bytes that all files of an archive have together at most; more is no archive of ours.
MOST_BYTES = 4 << 30


def private_key(pem: str) -> Ed25519PrivateKey:
    """A key that signs.

    :raises RunbookError: it is none; its value is not repeated
    """
    if not pem.strip():
        raise RunbookError(
            "signing_key: it is empty; make one with openssl genpkey -algorithm ed25519, and keep it in Ansible Vault."
        )
    try:
        found = serialization.load_pem_private_key(pem.strip().encode() + b"\n", password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        found = None
    if not isinstance(found, Ed25519PrivateKey):
        raise RunbookError(
            "signing_key: it is no private Ed25519 key in PEM (its value is not repeated here); make one with openssl "
            "genpkey -algorithm ed25519, and keep it in Ansible Vault."
        )
    return found


def public_key(pem: bytes, source: str) -> Ed25519PublicKey:
    """A key that verifies.

    :raises RunbookError: it is none
    """
    try:
        found = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        found = None
    if not isinstance(found, Ed25519PublicKey):
        raise RunbookError(
            f"{source}: it is no public Ed25519 key in PEM; make it with openssl pkey -in key.pem -pubout."
        )
    return found


def fingerprint(key: Ed25519PublicKey) -> str:
    """SHA-256 of a public key as DER, as openssl and sha256sum print it."""
    return hashlib.sha256(
        key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    ).hexdigest()


def digest(data: bytes) -> str:
    """SHA-256, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def signed(files: Mapping[str, bytes], key: Ed25519PrivateKey) -> dict[str, bytes]:
    """The files with the public key, their hashes, and the signature."""
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    whole = {**files, PUBLIC: public}
    sums = "".join(f"{digest(whole[name])}  {name}\n" for name in sorted(whole)).encode()
    return whole | {SUMS: sums, SIGNATURE: key.sign(sums)}


def packed(files: Mapping[str, bytes]) -> bytes:
    """The files as a ZIP."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, files[name])
    return made.getvalue()


def verify(path: Path, key: Ed25519PublicKey | None) -> tuple[int, str, list[str]]:
    """How many files an archive has, the fingerprint of the key in it, and what is wrong with it.

    :param key: the key that it must be signed with; None for the one in it
    :raises RunbookError: it is no archive of ours
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MOST_BYTES:
                raise RunbookError(f"archive: {path} holds more than {MOST_BYTES} bytes; it is no archive of ours.")
            names = archive.namelist()
            files = {name: archive.read(name) for name in names}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        raise RunbookError(f"archive: {path} cannot be read: {error}.") from None
    lacking = [name for name in (SUMS, SIGNATURE, PUBLIC) if name not in files]
    if lacking:
        raise RunbookError(f"archive: {path} has no {', '.join(lacking)}; it is no archive of ours.")
    inside = public_key(files[PUBLIC], f"{path}: {PUBLIC}")
    wrong = []
    try:
        (key or inside).verify(files[SIGNATURE], files[SUMS])
    except InvalidSignature:
        wrong.append("The signature is not of that key over these hashes.")
    lines = files[SUMS].decode(errors="replace").splitlines()
    said = {line.partition("  ")[2]: line.partition("  ")[0] for line in lines}
    if len(names) != len(files):
        wrong.append("A name is there twice.")
    for name in sorted(said.keys() - files.keys()):
        wrong.append(f"{name} is missing.")
    for name in sorted(files.keys() - said.keys() - {SUMS, SIGNATURE}):
        wrong.append(f"{name} was added.")
    wrong += [
        f"{name} was changed." for name in sorted(said.keys() & files.keys())
        if digest(files[name]) != said[name]
    ]  # fmt: skip
    return len(said), fingerprint(inside), wrong
