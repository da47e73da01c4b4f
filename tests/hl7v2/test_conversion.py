"""From messages to FHIR: each fixture with its expected resources, and the rules across messages."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_adapter.hl7v2.conversion import Context, Conversion, read
from fhir_adapter.hl7v2.message import Message
from fhir_adapter.hl7v2.messages import MESSAGES, convert
from fhir_adapter.hl7v2.messages.observations import Observations
from fhir_adapter.hl7v2.wire import dumps
from fhir_adapter.store.document import parse
from fhir_adapter.store.validate import Validator
from kernel.errors import Category, Problem

FIXTURES = Path(__file__).parent / "fixtures"
VALIDATOR = Validator()
NAMES = sorted(path.stem for path in FIXTURES.glob("*.hl7"))


def fixture(name: str) -> bytes:
    return (FIXTURES / f"{name}.hl7").read_bytes()


def run(raw: bytes, context: Context) -> Conversion:
    return convert(Message.parse(raw), context)


def by_type(conversion: Conversion, kind: str) -> list[dict[str, Any]]:
    found = [entry["resource"] for entry in conversion.bundle["entry"]]
    return [resource for resource in found if resource["resourceType"] == kind]


class Store:
    """Applies transactions and returns stored resources."""

    def __init__(self, context: Context) -> None:
        self.resources: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._context = replace(context, current=lambda kind, key: self.resources.get((kind, key)))

    def take(self, raw: bytes) -> Conversion:
        conversion = run(raw, self._context)
        for entry in conversion.bundle["entry"]:
            kind, key = entry["request"]["url"].split("/")
            self.resources[kind, key] = entry["resource"] | {"meta": {"versionId": "1", "lastUpdated": "2026"}}
        return conversion

    def of(self, kind: str) -> list[Mapping[str, Any]]:
        return [resource for (found, _), resource in self.resources.items() if found == kind]


@pytest.mark.parametrize("name", NAMES)
def test_a_message_is_converted_to_its_expected_file(name: str, context: Context) -> None:
    conversion = run(fixture(name), context)
    became = f'{{"bundle":{dumps(conversion.bundle).decode()},"unmapped":{json.dumps(conversion.unmapped)}}}'
    # As text, so that 37.10 and 37.1 differ.
    expected = (FIXTURES / f"{name}.json").read_text()
    parsed = json.loads(became, parse_float=str, parse_int=str)
    assert parsed == json.loads(expected, parse_float=str, parse_int=str)


@pytest.mark.parametrize("name", NAMES)
def test_the_converted_resources_are_valid_r4(name: str, context: Context) -> None:
    raw = dumps(run(fixture(name), context).bundle)
    Bundle.model_validate_json(raw)
    VALIDATOR.check(parse(raw))


@pytest.mark.parametrize("name", NAMES)
def test_every_obx_becomes_an_observation_of_its_own(name: str, context: Context) -> None:
    sent = sum(1 for _ in Message.parse(fixture(name)).all("OBX"))
    observations = by_type(run(fixture(name), context), "Observation")
    assert len({observation["id"] for observation in observations}) == sent


def test_every_message_has_a_fixture() -> None:
    have = {f"{m.header.get(9)}^{m.header.get(9, 2)}" for m in map(Message.parse, map(fixture, NAMES))}
    assert have == set(MESSAGES)


def test_the_same_message_gives_the_same_bytes(context: Context) -> None:
    once, again = (dumps(run(fixture("oru_r01_values"), context).bundle) for _ in range(2))
    assert once == again


def test_decimals_are_written_as_they_were_sent(context: Context) -> None:
    assert b'"value":37.10,' in dumps(run(fixture("oru_r01_vitals"), context).bundle)
    assert b'"value":0.0500,' in dumps(run(fixture("oru_r01_values"), context).bundle)


def test_a_discharge_finishes_the_encounter_of_the_admission(context: Context) -> None:
    store = Store(context)
    for name in ("adt_a01", "adt_a03"):
        store.take(fixture(name))
    (encounter,) = store.of("Encounter")
    assert encounter["status"] == "finished"
    assert encounter["period"] == {"start": "2026-01-15T09:45:00+01:00", "end": "2026-01-18T15:55:00+00:00"}
    assert encounter["participant"][0]["individual"]["display"] == "Dr Ngozi Okafor"
    assert encounter["hospitalization"]["dischargeDisposition"]["coding"][0]["code"] == "01"


def test_a_discharge_time_before_the_admission_is_left_out(context: Context) -> None:
    conversion = run(fixture("adt_a03").replace(b"20260118155500+0000", b"20250118155500"), context)
    assert by_type(conversion, "Encounter")[0]["period"] == {"start": "2026-01-15T09:45:00+01:00"}
    assert "PV1-45: before PV1-44; not mapped" in conversion.unmapped


def test_an_update_after_the_discharge_does_not_reopen_the_encounter(context: Context) -> None:
    store = Store(context)
    for name in ("adt_a01", "adt_a03", "adt_a08"):
        store.take(fixture(name))
    assert [encounter["status"] for encounter in store.of("Encounter")] == ["finished"]


def test_an_update_changes_the_patient_and_deletes_only_null_fields(context: Context) -> None:
    store = Store(context)
    for name in ("adt_a01", "adt_a08"):
        store.take(fixture(name))
    (patient,) = store.of("Patient")
    assert patient["name"] == [{"use": "official", "family": "Schmidt", "given": ["Änne"]}]
    assert "address" not in patient
    assert len(patient["telecom"]) == 3
    assert [identifier["value"] for identifier in patient["identifier"]] == ["4711", "9434765919", "77"]


def test_a_short_pid_of_a_result_deletes_no_patient_data(context: Context) -> None:
    store = Store(context)
    store.take(fixture("adt_a01"))
    (before,) = store.of("Patient")
    store.take(fixture("oru_r01_vitals"))
    assert [patient | {"meta": before["meta"]} for patient in store.of("Patient")] == [before]


def test_a_result_that_contradicts_what_is_stored_of_the_patient_changes_nothing(context: Context) -> None:
    store = Store(context)
    store.take(fixture("adt_a01"))
    store.take(fixture("oru_r01_vitals").replace(b"19480305", b"19480306"))
    (patient,) = store.of("Patient")
    assert (patient["birthDate"], patient["name"][0]["given"]) == ("1948-03-05", ["Änne", "Maria"])


def test_a_stored_value_that_is_repeated_makes_no_new_version(context: Context) -> None:
    store = Store(context)
    first = store.take(fixture("adt_a01"))
    assert dumps(store.take(fixture("adt_a01")).bundle) == dumps(first.bundle)


def test_an_observation_that_was_stored_under_its_time_as_written_keeps_its_id(context: Context) -> None:
    """Earlier releases made the id from the text of OBX-14, here without an offset."""
    store = Store(context)
    first = store.take(fixture("oru_r01_vitals"))
    (report,) = store.of("DiagnosticReport")
    state = read(Message.parse(fixture("oru_r01_vitals")), context)
    observations = Observations(state, {"id": first.patient}, None)
    obr, obx = (next(state.message.all(name)) for name in ("OBR", "OBX"))
    written = (obx.raw(3), obx.raw(4), obx.get(14))
    former = observations.first_id("Observation", obr.raw(3), obr.get(1), *written)
    newest = report["result"][0]["reference"].removeprefix("Observation/")
    assert former != newest
    store.resources["Observation", former] = store.resources.pop(("Observation", newest)) | {"id": former}
    assert by_type(store.take(fixture("oru_r01_vitals")), "Observation")[0]["id"] == former


def test_a_correction_updates_the_observation_that_it_corrects(context: Context) -> None:
    store = Store(context)
    store.take(fixture("oru_r01_vitals"))
    store.take(fixture("oru_r01_correction"))
    observations = store.of("Observation")
    assert len(observations) == 7
    (temperature,) = (one for one in observations if one["code"]["coding"][0]["code"] == "8310-5")
    assert (temperature["status"], str(temperature["valueQuantity"]["value"])) == ("corrected", "38.2")
    assert [report["status"] for report in store.of("DiagnosticReport")] == ["corrected"]


def test_a_change_to_final_without_a_value_keeps_the_value(context: Context) -> None:
    store = Store(context)
    store.take(fixture("oru_r01_correction"))
    store.take(fixture("oru_r01_correction").replace(b"||38.2|C|||||C|", b"|||C|||||U|"))
    (observation,) = store.of("Observation")
    assert (observation["status"], str(observation["valueQuantity"]["value"])) == ("final", "38.2")


def test_order_numbers_that_two_patients_share_do_not_mix_them(context: Context) -> None:
    store = Store(context)
    store.take(fixture("oru_r01_vitals"))
    store.take(fixture("oru_r01_vitals").replace(b"4711", b"4799"))
    assert len(store.of("Observation")) == 14


def test_ids_tell_nothing_of_the_patient(context: Context) -> None:
    conversion = run(fixture("adt_a01"), context)
    assert len(conversion.patient) == 32
    assert "4711" not in conversion.patient
    assert conversion.patient != run(fixture("adt_a01").replace(b"4711^^^GENERAL", b"4711^^^OTHER"), context).patient


@pytest.mark.parametrize(
    ("identifier", "system"),
    [
        (b"1^^^WARD", "urn:ausculta:authority:WARD"),
        (b"1", "urn:ausculta:authority:HOSPITAL"),
        (b"1^^^NHS", "https://fhir.nhs.uk/Id/nhs-number"),
        (b"1^^^A&1.2.3.4&ISO", "urn:oid:1.2.3.4"),
        (b"1^^^&1.2.3.4&ISO", "urn:oid:1.2.3.4"),
        (b"1^^^A&https://example.org/mrn&URI", "https://example.org/mrn"),
        (b"1^^^A&0b0f8f0e-1b1c-4d1e-8f1a-0123456789ab&UUID", "urn:uuid:0b0f8f0e-1b1c-4d1e-8f1a-0123456789ab"),
        (b"1^^^Ward 4", "urn:ausculta:authority:Ward%204"),
    ],
)
def test_the_assigning_authority_becomes_the_system(identifier: bytes, system: str, context: Context) -> None:
    raw = fixture("oru_r01_correction").replace(b"4711^^^GENERAL^MR", identifier)
    assert by_type(run(raw, context), "Patient")[0]["identifier"][0]["system"] == system


@pytest.mark.parametrize(
    ("sent", "zone_of_message", "has_zone", "became"),
    [
        ("20260115080910.25-0330", "", True, "2026-01-15T08:09:10.25-03:30"),
        ("20260115080910", "+0900", True, "2026-01-15T08:09:10+09:00"),
        ("20260115080910", "", True, "2026-01-15T08:09:10+01:00"),
        ("20260115080910", "", False, "2026-01-15"),
        ("202601150809", "", True, "2026-01-15T08:09:00+01:00"),
        ("20260115", "", True, "2026-01-15"),
        ("202601", "", False, "2026-01"),
        ("2026", "", False, "2026"),
    ],
)
def test_times_keep_their_offset_and_precision(
    sent: str, zone_of_message: str, has_zone: bool, became: str, context: Context
) -> None:
    raw = fixture("oru_r01_correction").replace(b"20260115115800+0200", sent.encode())
    raw = raw.replace(b"20260115123000||ORU", f"20260115123000{zone_of_message}||ORU".encode())
    (observation,) = by_type(run(raw, context if has_zone else replace(context, zone=None)), "Observation")
    assert observation["effectiveDateTime"] == became


def test_an_invalid_time_is_left_out_and_reported(context: Context) -> None:
    conversion = run(fixture("oru_r01_correction").replace(b"20260115115800+0200", b"20261301"), context)
    assert "OBX-14: not a date or time of HL7 v2" in conversion.unmapped


@pytest.mark.parametrize(
    ("change", "category", "named"),
    [
        ((b"PID|1||4711^^^GENERAL^MR", b"PID|1||"), Category.INCORRECT, "PID-3"),
        ((b"PID|", b"ZID|"), Category.INCORRECT, "PID is missing"),
        ((b"OBR|1", b"PID|1||9\nOBR|1"), Category.INCORRECT, "PID occurs more than once"),
        ((b"ORU^R01", b"ORM^O01"), Category.UNSUPPORTED, "MSH-9"),
    ],
)
def test_a_message_without_a_required_field_is_refused_with_the_fields_name(
    change: tuple[bytes, bytes], category: Category, named: str, context: Context
) -> None:
    with pytest.raises(Problem, match=named) as raised:
        run(fixture("oru_r01_correction").replace(*change), context)
    assert raised.value.category is category


def test_reports_of_what_is_not_mapped_hold_no_values(context: Context) -> None:
    reported = " ".join(note for name in NAMES for note in run(fixture(name), context).unmapped)
    assert not [word for word in ("Müller", "Otto", "4711", "Leeds", "JVBER", "<5") if word in reported]


def test_expected_files_belong_to_messages() -> None:
    assert sorted(path.stem for path in FIXTURES.glob("*.json")) == NAMES


BITS = st.sampled_from(
    ["|", "^", "~", "&", "\\", "\n", '""', "\xa0", "\x00", "\x85", "\u2028", "<", ".", "1e5", "9" * 20, "-", "20260230"]
) | st.sampled_from(["\\X00\\", "\\XFFFE\\", "urn:x:y", "%", "ED", "SN", "NR", "TM", "X", "U", "😀"])
EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 8), BITS), min_size=1, max_size=8)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(NAMES), EDITS)
def test_a_damaged_message_is_valid_r4_or_refused(
    context: Context, name: str, edits: list[tuple[float, int, str]]
) -> None:
    text = fixture(name).decode()
    for where, length, bit in edits:
        at = 60 + int(where * (len(text) - 60))
        text = text[:at] + bit + text[at + length :]
    try:
        bundle = run(text.encode(), context).bundle
    except Problem as problem:
        assert problem.category in (Category.INCORRECT, Category.UNSUPPORTED)  # noqa: PT017 - either outcome is right
        return
    VALIDATOR.check(parse(dumps(bundle)))


def test_a_flag_gets_its_table_and_a_code_of_the_same_letters_does_not(context: Context) -> None:
    head = "MSH|^~\\&|LAB|GEN|A|B|20260115120000+0000||ORU^R01^ORU_R01|M1|P|2.5.1\rPID|1||7^^^HOSPITAL^MR\rOBR|1||F1"
    raw = f"{head}\rOBX|1|NM|H||1|mg/dl||H|||F\rOBX|2|NM|H||2|mg/dl||H|||F".encode()
    first, second = run(raw, context), run(raw, context)
    assert first == second
    for observation in by_type(first, "Observation"):
        assert observation["code"] == {"coding": [{"code": "H"}]}
        assert observation["interpretation"][0]["coding"][0]["system"].endswith("v3-ObservationInterpretation")
