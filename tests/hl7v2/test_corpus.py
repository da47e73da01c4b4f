"""Messages of other projects' test suites: each is converted completely, or refused with a reason."""

from collections import Counter
from pathlib import Path

import pytest

from fhir_adapter.hl7v2.conversion import Context
from fhir_adapter.hl7v2.message import Message
from fhir_adapter.hl7v2.messages import MESSAGES, convert
from fhir_adapter.hl7v2.wire import dumps
from fhir_adapter.store.document import parse
from fhir_adapter.store.validate import Validator
from kernel.errors import Category, Problem

FLOOR = 290
"""Conversions that succeed, of 431 supported messages; the other 141 name no patient (132) or hold no order (9)."""


def outcome(raw: bytes, context: Context, validator: Validator) -> str:
    try:
        message = Message.parse(raw)
        if f"{message.header.get(9)}^{message.header.get(9, 2)}" not in MESSAGES:
            return "other message"
        bundle = convert(message, context).bundle
    except Problem as problem:
        assert problem.category is Category.INCORRECT  # noqa: PT017 - either outcome is right
        return f"refused: {problem.detail}"
    validator.check(parse(dumps(bundle)))
    ids = [entry["request"]["url"] for entry in bundle["entry"]]
    assert len(set(ids)) == len(ids)
    assert sum(url.startswith("Observation/") for url in ids) == sum(1 for _ in message.all("OBX"))
    return "converted"


def test_every_message_is_converted_or_refused(shared: Path, context: Context) -> None:
    folder = shared / "data" / "hl7v2"
    if not folder.is_dir():
        pytest.skip("the collection of HL7 v2 messages is not beside this checkout")
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in (".hl7", ".txt")]
    validator = Validator()
    outcomes = Counter(outcome(path.read_bytes(), context, validator) for path in files)
    print(dict(outcomes))
    assert outcomes["converted"] >= FLOOR
