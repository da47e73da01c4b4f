"""Messages of other projects' test suites: each is converted completely, or refused with a reason."""

import random
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


VALUES = (
    *(b"19600230", b"2026", b"202601011030", b"20260101103", b"10:30", b"A  B", b" A ", b"a b", b"a&b&c", b"x" * 200),
    *(b"^^^a b&1.2.3&ISO", b"^^^x&not an oid&ISO", b"AAA", b"^AP^^Base64^AAA", b"^^PDF^Base64^AA A", b"http://x y/z"),
    *(b"-1", b"1e5", b".5", b"5.", b"007", b">5", b"1^:^128", b"NaN", b'""', b"\xc2\xa0", b"\\X0C\\", b"9" * 20),
    *(b"^WPN^Internet^a b@c", b"ICD10^a b^I 10", b"c^d^urn:x y", b"c^d^LN&x y"),
)
TYPES = (b"NM", b"ST", b"DT", b"TM", b"DTM", b"TS", b"SN", b"CWE", b"ED", b"RP", b"TX", b"NA")


def changed(raw: bytes, chance: random.Random) -> bytes:
    """Return the message with another value in one field, or with an OBX of another type."""
    segments = raw.replace(b"\r\n", b"\r").replace(b"\n", b"\r").split(b"\r")
    place = chance.randrange(1, len(segments)) if len(segments) > 1 else 0
    fields = segments[place].split(b"|")
    if fields[0] == b"OBX" and len(fields) > 5 and chance.random() < 0.3:
        fields[2], fields[5] = chance.choice(TYPES), chance.choice(VALUES)
    elif len(fields) > 1 and place:
        fields[chance.randrange(1, len(fields))] = chance.choice(VALUES)
    segments[place] = b"|".join(fields)
    return b"\r".join(segments)


def test_a_value_that_is_not_valid_never_makes_a_resource_that_is_not(shared: Path, context: Context) -> None:
    """Whatever one field holds, a message is converted to valid resources, or refused with a reason: none is lost."""
    folder = shared / "data" / "hl7v2"
    if not folder.is_dir():
        pytest.skip("the collection of HL7 v2 messages is not beside this checkout")
    validator, chance = Validator(), random.Random(7)
    converted = 0
    for path in sorted(folder.rglob("*.hl7")):
        raw = path.read_bytes()
        for _ in range(3):
            try:
                message = Message.parse(changed(raw, chance))
                if f"{message.header.get(9)}^{message.header.get(9, 2)}" not in MESSAGES:
                    continue
                bundle = convert(message, context).bundle
            except Problem as problem:
                assert problem.category is Category.INCORRECT  # noqa: PT017 - either outcome is right
                continue
            validator.check(parse(dumps(bundle)))
            converted += 1
    assert converted > 300
