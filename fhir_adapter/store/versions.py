"""One version of one resource: the record, and the statement that finds the newest ones."""

from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import and_, select

from kernel.tables import resource_heads, resource_versions

_HEADS: Final = resource_heads.c
_VERSIONS: Final = resource_versions.c

COLUMNS: Final = (
    _HEADS.type,
    _HEADS.id,
    _HEADS.key,
    _VERSIONS.version,
    _VERSIONS.last_updated,
    _VERSIONS.patient,
    _VERSIONS.content,
)
"""What :func:`stored` reads."""

IS_CURRENT: Final = and_(_VERSIONS.key == _HEADS.key, _VERSIONS.version == _HEADS.version)
"""Holds for the newest version of a resource."""

CURRENT: Final = select(*COLUMNS).select_from(resource_heads).join(resource_versions, IS_CURRENT)
"""Selects the newest versions; the caller adds the condition."""


class StoredVersion(NamedTuple):
    """One version of one resource, as stored; a tuple, because a page of a search makes many of them."""

    type: str
    id: str
    #: From 1.
    version: int
    last_updated: datetime
    #: The JSON; empty for a deletion.
    content: bytes
    #: Reference of the patient it concerns, if any.
    patient: str | None
    #: This write created the resource.
    created: bool = False
    #: This write made a version; false for a version that was read, and for an update without changes.
    changed: bool = False
    #: This version is the deletion.
    deleted: bool = False

    @property
    def reference(self) -> str:
        """Versioned reference, such as ``Observation/x/_history/2``."""
        return f"{self.type}/{self.id}/_history/{self.version}"

    @property
    def etag(self) -> str:
        """``ETag`` of the version (R4, http.html#versions)."""
        return f'W/"{self.version}"'


def stored(row: Any) -> StoredVersion:
    """Return the record of a row of :data:`COLUMNS`, with or without further columns."""
    kind, resource_id, _, version, last_updated, patient, content = row[:7]
    return StoredVersion(kind, resource_id, version, last_updated, content or b"", patient, deleted=content is None)
