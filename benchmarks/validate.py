"""Validating R4 resources: the compiled checks against the models of fhir.resources.

Run as ``make bench-validate`` or ``python -m benchmarks.validate``. Both get the parsed JSON of the same resource; JSON
is not parsed in the figures, and nothing is written. The figures are CPU time, which other load affects less. The cost
of compiling the checks comes first.
"""

import time
import tracemalloc
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Final

import orjson
from fhir.resources.R4B import get_fhir_model_class

from benchmarks.hl7v2_mllp import ANN, AT, RESULTS
from benchmarks.measure import in_turns, ratio, table
from fhir_adapter.hl7v2.conversion import Context
from fhir_adapter.hl7v2.message import Message
from fhir_adapter.hl7v2.messages import convert
from fhir_adapter.hl7v2.synthesise import oru_labs
from fhir_adapter.patient_identity import IdentifierConventions, PatientIdentities
from fhir_adapter.store.document import encode
from fhir_adapter.validation.structure import Checks
from fhir_adapter.validation.table import r4
from privacy.pseudonyms import Pseudonyms

ROUNDS: Final = 15
SECONDS: Final = 0.05
"""How long one round of a variant takes at least."""

LOINC: Final = "http://loinc.org"
UCUM: Final = "http://unitsofmeasure.org"


def concept(code: str, text: str, system: str = LOINC) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code, "display": text}], "text": text}


def part(code: str, text: str, value: int) -> dict[str, Any]:
    quantity = {"value": value, "unit": "mmHg", "system": UCUM, "code": "mm[Hg]"}
    return {"code": concept(code, text), "valueQuantity": quantity, "interpretation": [concept("N", "Normal")]}


def blood_pressure() -> dict[str, Any]:
    """Return an Observation of about 2 KB, as an EHR sends it."""
    category = "http://terminology.hl7.org/CodeSystem/observation-category"
    return {
        "resourceType": "Observation",
        "id": "blood-pressure-1",
        "meta": {"profile": ["http://hl7.org/fhir/StructureDefinition/vitalsigns"], "source": "urn:oid:1.2.3.4.5"},
        "identifier": [{"use": "official", "system": "urn:oid:1.2.3.4.5.6", "value": "OBS-2026-000123"}],
        "basedOn": [{"reference": "ServiceRequest/order-77", "display": "Vital signs every four hours"}],
        "status": "final",
        "category": [concept("vital-signs", "Vital Signs", category)],
        "code": concept("85354-9", "Blood pressure panel with all children optional"),
        "subject": {"reference": "Patient/patient-1", "display": "Erika Mustermann"},
        "encounter": {"reference": "Encounter/encounter-1"},
        "effectiveDateTime": "2026-01-15T11:00:00+01:00",
        "issued": "2026-01-15T11:00:05.123+01:00",
        "performer": [{"reference": "Practitioner/nurse-1", "display": "Station 4"}],
        "interpretation": [concept("N", "Normal")],
        "note": [{"time": "2026-01-15T11:00:05+01:00", "text": "Measured while sitting, after five minutes of rest."}],
        "bodySite": concept("368209003", "Right arm", "http://snomed.info/sct"),
        "method": concept("37931006", "Auscultation", "http://snomed.info/sct"),
        "device": {"reference": "Device/monitor-12"},
        "component": [part("8480-6", "Systolic blood pressure", 120), part("8462-4", "Diastolic blood pressure", 80)],
    }


def heart_rate(number: int = 1) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": f"heart-rate-{number}",
        "status": "final",
        "code": concept("8867-4", "Heart rate"),
        "subject": {"reference": "Patient/patient-1"},
        "effectiveDateTime": "2026-01-15T11:00:00Z",
        "valueQuantity": {"value": 72.5, "unit": "/min", "system": UCUM, "code": "/min"},
    }


def patient() -> dict[str, Any]:
    div = '<div xmlns="http://www.w3.org/1999/xhtml"><p><b>Erika Mustermann</b>, born 1964-08-12</p></div>'
    return {
        "resourceType": "Patient",
        "id": "patient-1",
        "text": {"status": "generated", "div": div},
        "identifier": [{"use": "usual", "type": concept("MR", "Record"), "system": "urn:oid:1.2.3", "value": "123"}],
        "active": True,
        "name": [{"use": "official", "family": "Mustermann", "given": ["Erika", "Maria"], "prefix": ["Dr."]}],
        "telecom": [{"system": "phone", "value": "+49 30 1234567", "use": "home", "rank": 1}],
        "gender": "female",
        "birthDate": "1964-08-12",
        "address": [
            {"use": "home", "line": ["Heidestraße 17"], "city": "Köln", "postalCode": "51147", "country": "DE"}
        ],
        "contact": [{"relationship": [concept("N", "Next of kin")], "name": {"family": "Mustermann"}}],
        "generalPractitioner": [{"reference": "Practitioner/doctor-1"}],
    }


def bundle() -> dict[str, Any]:
    entries = [
        {
            "fullUrl": f"urn:uuid:00000000-0000-4000-8000-{number:012}",
            "resource": heart_rate(number),
            "request": {"method": "POST", "url": "Observation"},
        }
        for number in range(100)
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def risk_assessment() -> dict[str, Any]:
    return {
        "resourceType": "RiskAssessment",
        "id": "result-1",
        "meta": {
            "security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "AIAST"}]
        },
        "identifier": [{"system": "urn:ausculta:result", "value": "0123456789abcdef"}],
        "status": "final",
        "method": concept("news2", "NEWS2"),
        "subject": {"reference": "Patient/patient-1"},
        "occurrenceDateTime": "2026-01-15T11:00:00Z",
        "performer": {"reference": "Device/model-1"},
        "basis": [{"reference": f"Observation/heart-rate-{number}"} for number in range(7)],
        "prediction": [
            {
                "outcome": concept("risk", "Clinical deterioration"),
                "probabilityDecimal": 0.12,
                "qualitativeRisk": concept("low", "Low likelihood"),
                "whenPeriod": {"start": "2026-01-15T11:00:00Z", "end": "2026-01-16T11:00:00Z"},
                "rationale": "Respiratory rate 2, oxygen saturation 1",
            }
        ],
    }


def converted() -> list[dict[str, Any]]:
    """Return the resources of an ORU^R01 with 30 OBX."""
    pseudonyms = Pseudonyms(b"k" * 32)
    identities = PatientIdentities(IdentifierConventions(default_authority="GEN"), pseudonyms)
    context = Context(pseudonyms=pseudonyms, identities=identities, zone=AT.tzinfo)
    bundle = convert(Message.parse(oru_labs(ANN, RESULTS, "M1", AT)), context).bundle
    return [entry["resource"] for entry in orjson.loads(encode(bundle))["entry"]]


RESOURCES: Final[dict[str, Any]] = {
    "Observation (blood pressure)": blood_pressure(),
    "Observation (heart rate)": heart_rate(),
    "Patient": patient(),
    "RiskAssessment": risk_assessment(),
    "Bundle of 100": bundle(),
    "32 resources of an ORU": converted(),
}


def main() -> dict[str, Any]:
    found: dict[str, Any] = {"compile": _compiling()}
    checks = Checks(r4())
    rows = [["resource", "bytes", "compiled checks", "fhir.resources", "ratio"]]
    for name, resource in RESOURCES.items():
        read = orjson.loads(orjson.dumps(resource))
        parts = read if isinstance(read, list) else [read]
        assert all(checks.resource(it) is None for it in parts), name
        models = [get_fhir_model_class(it["resourceType"]).model_validate for it in parts]
        variants = {
            "ours": _timed([(checks.resource, it) for it in parts]),
            "theirs": _timed(list(zip(models, parts, strict=True))),
        }
        figures = in_turns(variants, ROUNDS)
        ours, theirs = (median(figures[it]) * 1e6 for it in ("ours", "theirs"))
        times = round(ratio(figures, "theirs", "ours"), 1)
        size = len(orjson.dumps(read))
        found[name] = {"bytes": size, "ours_us": round(ours, 1), "theirs_us": round(theirs, 1), "ratio": times}
        rows.append([name, str(size), f"{ours:.1f} us", f"{theirs:.1f} us", f"{times:.1f}"])
    print(table(rows))
    return found


def _compiling() -> dict[str, float]:
    """Measure what it costs before the first resource."""
    started = time.perf_counter()
    definitions = r4()
    read = time.perf_counter()
    checks = Checks(definitions)
    checks.structure("Observation")
    first = time.perf_counter()
    for kind in sorted(definitions.resources):
        checks.structure(kind)
    every = time.perf_counter()
    r4.cache_clear()
    tracemalloc.start()
    again = Checks(r4())
    for kind in sorted(definitions.resources):
        again.structure(kind)
    memory = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    figures = {
        "table_ms": round((read - started) * 1000, 1),
        "observation_ms": round((first - read) * 1000, 1),
        "all_ms": round((every - first) * 1000, 1),
        "memory_mb": round(memory / 1e6, 1),
    }
    print(
        "reading the table {table_ms} ms, compiling Observation {observation_ms} ms, "
        "then all 146 types {all_ms} ms, {memory_mb} MB".format(**figures)
    )
    return figures


def _timed(checked: Sequence[tuple[Callable[[Any], Any], Any]]) -> Callable[[], float]:
    """Return a round that checks all resources again and again, and returns the seconds of one time."""

    def run() -> float:
        count, started = 0, time.process_time()
        while (passed := time.process_time() - started) < SECONDS:
            for _ in range(5):
                for check, resource in checked:
                    check(resource)
            count += 5
        return passed / count

    return run


if __name__ == "__main__":
    main()
