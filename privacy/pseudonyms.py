"""Keyed pseudonyms: the same person gets the same name here, and nobody without the key can find it out.

HMAC-SHA256 (RFC 2104) over an unambiguous encoding of what is named, cut to 128 bits. Each kind of name has a key of
its own, and so has each research project, so that names of two kinds or two projects cannot be linked.
"""

import hashlib
import hmac
import json
import uuid


class Pseudonyms:
    """Makes names out of identifiers.

    Parameters
    ----------
    key
        Secret, 32 bytes; :meth:`privacy.keys.KeyRing.derive` gives it.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "Pseudonyms(…)"

    def resource_id(self, resource_type: str, system: str, value: str) -> str:
        """Name a FHIR resource after its business identifier.

        Parameters
        ----------
        resource_type
            Such as ``Patient``.
        system, value
            The identifier, as its issuer writes it.

        Returns
        -------
        str
            32 hexadecimal digits, a legal FHIR id.
        """
        return self._name("resource", resource_type, system, value).hex()

    def uid(self, seed: str) -> str:
        """Make a DICOM UID that is always the same for ``seed`` (DICOM PS3.5 section B.2).

        Parameters
        ----------
        seed
            What the UID is for, such as ``<result id>/sr/series``.

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
        """Name a person within one project.

        Parameters
        ----------
        project
            The project; another project's names for the same people cannot be matched with these.
        system, value
            The person's identifier.

        Returns
        -------
        str
            32 hexadecimal digits.
        """
        return self._name("project " + project, system, value).hex()

    def _name(self, kind: str, *parts: str) -> bytes:
        key = hmac.digest(self._key, kind.encode(), hashlib.sha256)
        return hmac.digest(key, json.dumps(parts).encode(), hashlib.sha256)[:16]
