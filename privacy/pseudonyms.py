"""Keyed pseudonyms: the same identifier always gives the same pseudonym, which cannot be reversed without the key.

HMAC-SHA256 (RFC 2104) over an unambiguous encoding of the identifier, truncated to 128 bits. Each kind of pseudonym and
each research project has a key of its own, so that pseudonyms of two kinds or two projects cannot be linked.
"""

import hmac
import uuid
from collections.abc import Iterable
from json.encoder import encode_basestring_ascii


class Pseudonyms:
    """Makes pseudonyms from identifiers.

    Parameters
    ----------
    key
        Secret, 32 bytes, from :meth:`privacy.keys.KeyRing.derive`.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._of_resources = self._of_kind("resource")

    def __repr__(self) -> str:
        return "Pseudonyms(…)"

    def resource_id(self, resource_type: str, system: str, value: str) -> str:
        """Derive the id of a FHIR resource from its business identifier.

        Parameters
        ----------
        resource_type
            FHIR resource type, such as ``Patient``.
        system, value
            The identifier, exactly as its issuer writes it.

        Returns
        -------
        str
            32 hexadecimal digits, a legal FHIR id.
        """
        return _digest(self._of_resources, (resource_type, system, value)).hex()

    def uid(self, seed: str) -> str:
        """Derive a DICOM UID that is always the same for ``seed`` (DICOM PS3.5 section B.2).

        Parameters
        ----------
        seed
            Purpose of the UID, such as ``<result id>/sr/series``.

        Returns
        -------
        str
            ``2.25.`` and the decimal value of a version 8 UUID (RFC 9562 section 5.8); at most 44 characters.
        """
        digits = bytearray(self._name("uid", seed))
        digits[6] = digits[6] & 0x0F | 0x80
        digits[8] = digits[8] & 0x3F | 0x80
        return f"2.25.{uuid.UUID(bytes=bytes(digits)).int}"

    def token(self, project: str, system: str, value: str) -> str:
        """Derive the pseudonym of a person within one project.

        Parameters
        ----------
        project
            Name of the project; pseudonyms of different projects cannot be linked.
        system, value
            The person's identifier.

        Returns
        -------
        str
            32 hexadecimal digits.
        """
        return self._name("project " + project, system, value).hex()

    def _name(self, kind: str, *parts: str) -> bytes:
        return _digest(self._of_kind(kind), parts)

    def _of_kind(self, kind: str) -> bytes:
        return hmac.digest(self._key, kind.encode(), "sha256")


def _digest(key: bytes, parts: Iterable[str]) -> bytes:
    """Return the digest of the parts as a JSON array, which no other parts have."""
    return hmac.digest(key, f"[{', '.join(map(encode_basestring_ascii, parts))}]".encode(), "sha256")[:16]
