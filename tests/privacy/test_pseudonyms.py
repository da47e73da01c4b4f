"""A pseudonym is stable, a legal id, and reveals nothing."""

import hashlib
import hmac
import json
import re

from hypothesis import given
from hypothesis import strategies as st

from privacy.pseudonyms import Pseudonyms

NAMES = Pseudonyms(b"k" * 32)


@given(system=st.text(), value=st.text())
def test_a_resource_id_is_always_the_same_32_hexadecimal_digits(system: str, value: str) -> None:
    name = NAMES.resource_id("Patient", system, value)
    assert re.fullmatch("[0-9a-f]{32}", name)
    assert name == Pseudonyms(b"k" * 32).resource_id("Patient", system, value)


@given(system=st.text(), value=st.text())
def test_a_resource_id_is_the_digest_of_a_json_array(system: str, value: str) -> None:
    key = hmac.digest(b"k" * 32, b"resource", hashlib.sha256)
    digest = hmac.digest(key, json.dumps(["Patient", system, value]).encode(), hashlib.sha256)
    assert NAMES.resource_id("Patient", system, value) == digest.hex()[:32]


def test_the_name_does_not_hold_the_identifier() -> None:
    assert "12345" not in NAMES.resource_id("Patient", "urn:hospital", "12345")


def test_another_key_gives_other_names() -> None:
    other = Pseudonyms(b"l" * 32)
    assert NAMES.resource_id("Patient", "s", "v") != other.resource_id("Patient", "s", "v")


def test_parts_of_an_identifier_are_separated_unambiguously() -> None:
    assert NAMES.resource_id("Patient", "ab", "c") != NAMES.resource_id("Patient", "a", "bc")


def test_different_types_have_different_pseudonyms() -> None:
    assert NAMES.resource_id("Patient", "s", "v") != NAMES.resource_id("Encounter", "s", "v")


def test_projects_cannot_be_linked() -> None:
    assert NAMES.token("one", "s", "v") != NAMES.token("two", "s", "v")


def test_a_token_is_not_the_resource_id() -> None:
    assert NAMES.token("Patient", "s", "v") != NAMES.resource_id("Patient", "s", "v")


@given(seed=st.text())
def test_a_uid_is_legal_dicom_and_stable(seed: str) -> None:
    uid = NAMES.uid(seed)
    assert re.fullmatch(r"2\.25\.(0|[1-9][0-9]*)", uid)
    assert len(uid) <= 44
    assert uid == NAMES.uid(seed)


@given(seed=st.text())
def test_a_uid_is_a_version_8_uuid(seed: str) -> None:
    number = int(NAMES.uid(seed).removeprefix("2.25."))
    assert (number >> 76 & 0xF, number >> 62 & 0x3) == (8, 2)


def test_the_key_does_not_show_in_text() -> None:
    assert "k" * 8 not in repr(NAMES)
