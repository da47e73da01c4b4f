"""The key file, the keys derived from it, and encryption with them.

The file holds a *root* secret, which never changes and from which HKDF (RFC 5869) derives one key for each purpose
(pseudonyms, blob addresses, the audit log's digest and signature), and *wrapping* keys by identifier, which are
rotated. Anyone who can read the file can decrypt everything, so it is refused unless only its owner can read it.

A sealed object uses envelope encryption with a fresh data key for each object, so that no nonce is used twice under one
key and rotating a wrapping key rewrites only 40 bytes of an object::

    "AUSC" | version 1 | kid 4 | nonce 12 | wrapped data key 40 (AES-KW, RFC 3394) | AES-256-GCM ciphertext and tag 16
"""

import hashlib
import hmac
import os
import secrets
import stat
from base64 import b64decode, b64encode
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from kernel.blobs import Digest
from kernel.durable import sync_folder
from kernel.errors import Category, Problem

_MAGIC: Final = b"AUSC\x01"
_KID: Final = 4
_NONCE: Final = 12
_WRAPPED: Final = 40
_TAG: Final = 16
_HEADER: Final = len(_MAGIC) + _KID
_SHORTEST: Final = _HEADER + _NONCE + _WRAPPED + _TAG


class KeyRing:
    """The secrets of one installation; open with :meth:`open_or_create`.

    Parameters
    ----------
    root
        32 bytes from which the key of each purpose is derived.
    wrapping
        Wrapping keys of 32 bytes by identifier (8 hexadecimal digits).
    current
        Identifier of the wrapping key that new objects use.
    """

    def __init__(self, *, root: bytes, wrapping: Mapping[str, bytes], current: str) -> None:
        self._root = root
        self.wrapping: Mapping[str, bytes] = MappingProxyType(dict(wrapping))
        self.current = current

    def __repr__(self) -> str:
        return f"KeyRing(current={self.current!r})"

    @classmethod
    def open_or_create(cls, path: Path) -> "KeyRing":
        """Read the key file; create it when there is none.

        Parameters
        ----------
        path
            The key file: JSON, mode 0600. Back it up separately from the data: without it they cannot be read.

        Raises
        ------
        Problem
            ``fault`` when anyone but its owner may read it, or when it is not a key file.
        """
        if not path.exists():
            _create(path)
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise Problem(Category.FAULT, "the key file may be read by others than its owner: chmod 600 it")
            return _parse(file.read())

    def derive(self, purpose: str) -> bytes:
        """Return the 32-byte key of one purpose; it never changes, also not by a rotation."""
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"ausculta/1/" + purpose.encode()).derive(self._root)

    def cipher(self) -> "Cipher":
        """Return the cipher for blobs and stored messages."""
        return Cipher(self)

    def signing_key(self) -> Ed25519PrivateKey:
        """Return the key that signs the audit log's checkpoints (RFC 8032)."""
        return Ed25519PrivateKey.from_private_bytes(self.derive("audit-signature"))


class Cipher:
    """AES-256-GCM under a fresh key for each object; fulfils :class:`kernel.blobs.Cipher`.

    Parameters
    ----------
    keys
        Source of the wrapping keys and of the address key.
    """

    overhead = _SHORTEST

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys
        self._header = _MAGIC + bytes.fromhex(keys.current)
        self._wrapping = keys.wrapping[keys.current]
        self._address_key = keys.derive("blob-address")
        self._digest = hmac.new(self._address_key, digestmod=hashlib.sha256)

    def seal(self, plaintext: bytes | memoryview, context: bytes) -> bytes:
        """Encrypt and authenticate.

        Parameters
        ----------
        plaintext
            The bytes to encrypt.
        context
            Where the result is stored (an address, a row's id); it is authenticated, so sealed bytes open only under
            the same context.
        """
        head, nonce, key = self._object()
        return head + key.encrypt(nonce, plaintext, self._header + context)

    def seal_into(self, plaintext: bytes | memoryview, context: bytes, into: memoryview) -> None:
        """Do as :meth:`seal` does, and write what it returns.

        Parameters
        ----------
        plaintext, context
            As for :meth:`seal`.
        into
            Where it is written: as many bytes as the content has, and :attr:`overhead` more.
        """
        head, nonce, key = self._object()
        into[: len(head)] = head
        key.encrypt_into(nonce, plaintext, self._header + context, into[len(head) :])

    def _object(self) -> tuple[bytes, bytes, AESGCM]:
        """Return what a new sealed object begins with, its nonce and its key."""
        data_key, nonce = secrets.token_bytes(32), secrets.token_bytes(_NONCE)
        return self._header + nonce + aes_key_wrap(self._wrapping, data_key), nonce, AESGCM(data_key)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Return the plaintext.

        Parameters
        ----------
        sealed
            What :meth:`seal` returned.
        context
            The context that was given to :meth:`seal`.

        Raises
        ------
        Problem
            ``fault`` when the bytes were altered, sealed under another context, or sealed under an unknown key.
        """
        header = sealed[:_HEADER]
        if len(sealed) < _SHORTEST or not header.startswith(_MAGIC):
            raise Problem(Category.FAULT, "stored data are damaged", diagnostics="not a sealed object")
        wrapping = self._keys.wrapping.get(header[len(_MAGIC) :].hex())
        if wrapping is None:
            raise Problem(Category.FAULT, "stored data are sealed under a key that is not here")
        body = sealed[_HEADER:]
        nonce, wrapped, ciphertext = body[:_NONCE], body[_NONCE : _NONCE + _WRAPPED], body[_NONCE + _WRAPPED :]
        try:
            data_key = aes_key_unwrap(wrapping, wrapped)
            return AESGCM(data_key).decrypt(nonce, ciphertext, header + context)
        except (InvalidTag, InvalidUnwrap) as failure:
            raise Problem(Category.FAULT, "stored data are damaged", diagnostics=type(failure).__name__) from failure

    def address(self, plaintext: bytes | memoryview) -> str:
        """Return the keyed digest (HMAC-SHA256, 64 hexadecimal digits) that names this content."""
        return hmac.digest(self._address_key, plaintext, hashlib.sha256).hex()

    def digest(self) -> Digest:
        """Return what computes the same of parts."""
        return self._digest.copy()


def _create(path: Path) -> None:
    """Write a new key file atomically and durably, also when several processes try at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kid = secrets.token_hex(_KID)
    content = {
        "format": 1,
        "root": b64encode(secrets.token_bytes(32)).decode(),
        "current": kid,
        "wrapping": {kid: b64encode(secrets.token_bytes(32)).decode()},
    }
    draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another process created the file first
            path.hardlink_to(draft)
    finally:
        draft.unlink()
    sync_folder(path.parent)


def _parse(content: bytes) -> KeyRing:
    try:
        stored = orjson.loads(content)
        wrapping = {str(kid): b64decode(key, validate=True) for kid, key in stored["wrapping"].items()}
        root, current = b64decode(stored["root"], validate=True), str(stored["current"])
        sound = stored["format"] == 1 and current in wrapping
        sound &= all(len(key) == 32 for key in (root, *wrapping.values()))
        sound &= all(len(bytes.fromhex(kid)) == _KID for kid in wrapping)
    except (ValueError, KeyError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise Problem(Category.FAULT, "the key file is not a key file of this server")
    return KeyRing(root=root, wrapping=wrapping, current=current)
