"""The official R4 examples through the listener: what is served is what was sent."""

import json
from pathlib import Path
from typing import Any

from .harness import Server
from .test_validate import WRONG


def exactly(raw: bytes) -> Any:
    """Read JSON with each number as the characters it was written in."""
    return json.loads(raw, parse_float=lambda text: ("number", text), parse_int=lambda text: ("number", text))


def test_every_official_example_is_created_and_read_back_unchanged(server: Server, shared: Path) -> None:
    examples = sorted((shared / "data" / "fhir-r4-examples").glob("*.json"))
    kept = [path for path in examples if path.name not in WRONG and not path.name.startswith("AuditEvent")]
    assert len(kept) > 400
    for path in kept:
        raw = path.read_bytes()
        sent = exactly(raw)
        created = server.client.post(f"/{sent['resourceType']}", content=raw)
        assert created.status_code == 201, (path.name, created.text)
        read = exactly(server.client.get(created.headers["location"]).content)
        assert without_identity(read) == without_identity(sent), path.name


def without_identity(resource: dict[str, Any]) -> dict[str, Any]:
    """Leave out what the server sets."""
    meta = {key: value for key, value in resource.get("meta", {}).items() if key not in {"versionId", "lastUpdated"}}
    return {key: value for key, value in resource.items() if key not in {"id", "meta"}} | (
        {"meta": meta} if meta else {}
    )
