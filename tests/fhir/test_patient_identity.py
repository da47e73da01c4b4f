"""One rule decides which Patient an identifier names, whether it came in PID-3 or in the header of a study."""

from typing import Any

import pytest

from fhir_adapter.patient_identity import IdentifierConventions, PatientIdentities
from privacy.pseudonyms import Pseudonyms

CITY = "https://city.example/mrn"
IDENTITIES = PatientIdentities(
    IdentifierConventions(default_authority="HOSPITAL", systems={"CITY": CITY}), Pseudonyms(b"k" * 32)
)


def identifier(system: str, value: str, kind: str = "") -> dict[str, Any]:
    return {"system": system, "value": value} | ({"type": {"coding": [{"code": kind}]}} if kind else {})


@pytest.mark.parametrize(
    ("issuer", "system"),
    [
        ("CITY", CITY),
        ("HOSPITAL", "urn:ausculta:authority:HOSPITAL"),
        ("", "urn:ausculta:authority:HOSPITAL"),
        ("1.2.3", "urn:ausculta:authority:1.2.3"),
    ],
    ids=["a system of the settings", "another namespace", "no issuer", "a namespace that looks like an OID"],
)
def test_a_number_and_its_issuer_name_the_patient_that_the_same_identifier_names(issuer: str, system: str) -> None:
    by_number = IDENTITIES.of_number("4711", issuer)
    assert by_number.identifier == (system, "4711")
    assert by_number == IDENTITIES.of_identifiers([identifier(system, "4711")])


def test_the_universal_id_of_an_authority_is_a_system() -> None:
    assert IDENTITIES.conventions.system("", "1.2.840.1") == "urn:oid:1.2.840.1"


def test_the_medical_record_number_identifies_else_the_first_identifier() -> None:
    first, second = identifier("urn:a", "1", "SS"), identifier("urn:b", "2", "MR")
    assert IDENTITIES.of_identifiers([first, second]).identifier == ("urn:b", "2")
    assert IDENTITIES.of_identifiers([first]).identifier == ("urn:a", "1")


@pytest.mark.parametrize(
    ("rank", "best"),
    [
        (("MR", "PI"), "mr"),
        (("PI", "MR"), "pi"),
        (("CITY^",), "pi"),
        (("CITY^MR", "XX"), "xx"),
        ((), "plain"),
    ],
    ids=["by type", "in the site's order", "by authority", "type of an authority", "no order: one without a type"],
)
def test_the_site_decides_which_identifier_is_trusted_most(rank: tuple[str, ...], best: str) -> None:
    conventions = IdentifierConventions(default_authority="HOSPITAL", systems={"CITY": CITY}, rank=rank)
    stated = [
        identifier("urn:x", "xx", "XX"),
        identifier("urn:a", "plain"),
        identifier(CITY, "pi", "PI"),
        identifier("urn:b", "mr", "MR"),
    ]
    assert PatientIdentities(conventions, Pseudonyms(b"k" * 32)).of_identifiers(stated).value == best


def test_the_default_authority_is_an_authority_like_any_other() -> None:
    conventions = IdentifierConventions(default_authority="CITY", systems={"CITY": CITY})
    assert conventions.system("") == conventions.system("CITY") == CITY


def test_the_id_is_a_pseudonym() -> None:
    identity = IDENTITIES.of_number("4711", "CITY")
    assert identity.reference == f"Patient/{identity.resource_id}"
    assert "4711" not in identity.resource_id


def test_each_study_without_a_number_has_a_patient_of_its_own() -> None:
    identity = IDENTITIES.of_study("2.25.1")
    assert identity.identifier == ("urn:dicom:uid", "urn:oid:2.25.1")
    assert identity != IDENTITIES.of_study("2.25.2")
