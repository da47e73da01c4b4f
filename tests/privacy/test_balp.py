"""Every audit event is valid FHIR and claims a BALP profile only when it meets it."""

import warnings
from base64 import b64decode
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from kernel.errors import Category, Problem
from privacy import balp
from privacy.principal import Principal

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the library's own deprecations are not ours to fix
    from fhir.resources.R4B.auditevent import AuditEvent

AT = datetime(2026, 3, 1, 8, 30, 15, 250000, tzinfo=UTC)
KNOWN = Principal(client="epic", client_address="10.0.0.7", server_address="10.0.0.1", request_id="req-1")
UNKNOWN = Principal(client="epic", client_address="")
ENTITY = "Observation/1/_history/2"
PATIENT = "Patient/abc"


def every_event(principal: Principal) -> dict[str, balp.Event]:
    return {
        "PatientCreate": balp.created(principal, entity=ENTITY, patient=PATIENT, at=AT),
        "Create": balp.created(principal, entity="Device/d/_history/1", patient=None, at=AT),
        "PatientUpdate": balp.updated(principal, entity=ENTITY, patient=PATIENT, at=AT, interaction="patch"),
        "PatientDelete": balp.deleted(principal, entity=ENTITY, patient=PATIENT, at=AT),
        "PatientRead": balp.read(principal, entity=ENTITY, patient=PATIENT, at=AT, interaction="vread"),
        "PatientQuery": balp.queried(principal, query="GET Observation?subject=x", patient=PATIENT, at=AT),
        "Query": balp.queried(principal, query="GET Device", patient=None, at=AT),
        "PrivacyDisclosure.Recipient": balp.received(
            principal, entity="urn:uuid:0b1", patient=PATIENT, at=AT, what="HL7 v2 message"
        ),
        "PrivacyDisclosure.Source": balp.disclosed(
            principal,
            destination="EHR",
            destination_address="http://ehr/fhir",
            entity=ENTITY,
            patient=PATIENT,
            at=AT,
        ),
        "": balp.administered(principal, command="model-stopped", entity="urn:ausculta:model:news2:1", at=AT),
    }


NAMES = list(every_event(KNOWN))


def codes(event: balp.Event, path: str) -> list[str]:
    return [agent["type"]["coding"][0]["code"] for agent in event[path]]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("principal", [KNOWN, UNKNOWN], ids=["addresses known", "addresses unknown"])
def test_is_valid_fhir(name: str, principal: Principal) -> None:
    AuditEvent.model_validate_json(orjson.dumps(every_event(principal)[name]))


@pytest.mark.parametrize("name", [name for name in NAMES if name])
def test_claims_the_profile_it_meets(name: str) -> None:
    profile = every_event(KNOWN)[name]["meta"]["profile"]
    assert profile == [f"https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.{name}"]


@pytest.mark.parametrize("name", NAMES)
def test_claims_no_profile_when_a_network_address_is_unknown(name: str) -> None:
    assert "meta" not in every_event(UNKNOWN)[name]


@pytest.mark.parametrize(
    ("name", "action", "agents"),
    [
        ("PatientCreate", "C", ["110153", "110152"]),
        ("PatientUpdate", "U", ["110153", "110152"]),
        ("PatientDelete", "D", ["110150", "custodian"]),
        ("PatientRead", "R", ["110152", "110153"]),
        ("PatientQuery", "E", ["110153", "110152"]),
        ("PrivacyDisclosure.Recipient", "C", ["110153", "110152"]),
        ("PrivacyDisclosure.Source", "R", ["110153", "110152", "110150"]),
    ],
)
def test_action_and_agents_follow_the_profiles(name: str, action: str, agents: list[str]) -> None:
    event = every_event(KNOWN)[name]
    assert (event["action"], codes(event, "agent")) == (action, agents)


def test_the_observer_of_a_disclosure_is_the_agent_on_this_side() -> None:
    events = every_event(KNOWN)
    observed = [
        events["PrivacyDisclosure.Source"]["agent"][0]["who"],
        events["PrivacyDisclosure.Recipient"]["agent"][1]["who"],
    ]
    assert observed == [{"identifier": {"value": "Ausculta"}}] * 2


def test_a_query_keeps_the_raw_request_and_nothing_of_the_answer() -> None:
    asked = "GET Observation?code=<script>&subject=Patient/é"
    (entity, *_) = balp.queried(KNOWN, query=asked, patient=PATIENT, at=AT)["entity"]
    assert (b64decode(entity["query"]).decode(), set(entity)) == (asked, {"type", "role", "query"})


def test_a_query_of_undecodable_bytes_is_kept_byte_for_byte() -> None:
    asked = b"GET Observation?code=\xff"
    event = balp.queried(KNOWN, query=asked.decode("utf-8", "surrogateescape"), patient=None, at=AT)
    assert b64decode(event["entity"][0]["query"]) == asked


def test_the_request_id_ties_the_event_to_the_request() -> None:
    transaction = balp.created(KNOWN, entity=ENTITY, patient=PATIENT, at=AT)["entity"][-1]
    assert (transaction["type"]["code"], transaction["what"]["identifier"]["value"]) == ("XrequestId", "req-1")


def test_the_time_is_recorded_in_utc_with_milliseconds() -> None:
    assert balp.created(KNOWN, entity=ENTITY, patient=None, at=AT)["recorded"] == "2026-03-01T08:30:15.250Z"


@pytest.mark.parametrize(
    ("category", "outcome"), [(Category.INCORRECT, "4"), (Category.FORBIDDEN, "4"), (Category.FAULT, "8")]
)
def test_a_failure_has_an_outcome_and_no_profile(category: Category, outcome: str) -> None:
    problem = Problem(category, "the resource is not valid", diagnostics="Doe^John")
    event = balp.failed(balp.created(KNOWN, entity=None, patient=None, at=AT), problem)
    AuditEvent.model_validate_json(orjson.dumps(event))
    assert (event["outcome"], event["outcomeDesc"], "meta" in event) == (outcome, "the resource is not valid", False)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("10.0.0.7", "2"),
        ("10.0.0.7:2575", "2"),
        ("::1", "2"),
        ("2001:db8::7", "2"),
        ("pacs.local", "1"),
        ("pacs:104", "1"),
        ("https://ehr/fhir", "5"),
    ],
)
def test_network_type_tells_addresses_apart(address: str, kind: str) -> None:
    principal = Principal(client="x", client_address=address)
    agent: dict[str, Any] = balp.created(principal, entity=ENTITY, patient=None, at=AT)["agent"][0]
    assert agent["network"] == {"address": address, "type": kind}
