"""A real key file, and a log to write to."""

from pathlib import Path

import pytest

from kernel.testing import FakeClock, SequenceIds
from privacy.audit import AuditLog
from privacy.keys import KeyRing


@pytest.fixture
def keys(tmp_path: Path) -> KeyRing:
    return KeyRing.open_or_create(tmp_path / "keys.json")


@pytest.fixture
def log(keys: KeyRing, clock: FakeClock, ids: SequenceIds) -> AuditLog:
    return AuditLog(keys, clock, ids)
