"""The training table has conditions, medications, stays and refusals as they were known at the moment."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import yaml

from kernel.errors import Problem
from service.training.reading import Known

from .hospital import Hospital
from .story_of_a_stay import (
    ATC,
    BY_REFERENCE,
    ICD,
    PRESSOR,
    PULSE,
    condition,
    measured,
    order,
    substance,
)
from .test_feature_stories import admit, laboratory, stay_risk
from .test_fhir_path import put_patient
from .test_training_table import AT, PATIENT, Json, Make, folder, log_of_the_tests, make, pulse, pulses, rows, versions

__all__ = ["folder", "log_of_the_tests", "make"]


def declare(folder: Path, *features: Json) -> None:
    """Give the model other features, and let it bear any number without a value."""
    declared = [{"title": it["name"]} | it for it in features]
    (folder / "features.yaml").write_text(yaml.safe_dump({"features": declared}))
    manifest = (folder / "model.yaml").read_text()
    (folder / "model.yaml").write_text(manifest.replace("limits: {}", "limits: {imputed_at_most: 0.5}"))


PULSE_OR: Json = measured("pulse", "last", {"hours": 1}, PULSE, missing={"default": 70})
ILL: Json = {"name": "ill", "conditions": [{"system": ICD, "codes": ["E11"]}]}
DRUG: Json = {"name": "drug", "medications": [{"system": ATC, "codes": ["C01CA03"]}]}
STAY: Json = measured("count", "count", {"since": "admission"}, PULSE)


def of_patient(resource: Json, minute: int | None = None, version: int = 1) -> Json:
    """Return a resource about the patient, stored in a minute of a day, or not said when."""
    known = None if minute is None else (AT + timedelta(minutes=minute)).isoformat()
    meta = {} if known is None else {"meta": {"versionId": str(version), "lastUpdated": known}}
    return {"subject": {"reference": "Patient/p1"}} | resource | meta


def test_a_row_says_that_the_model_would_refuse_since_too_many_values_are_imputed(make: Make, folder: Path) -> None:
    declare(folder, PULSE_OR)
    made = make([PATIENT, pulse(80, 0)], [-1, 0])
    assert pulses(made) == [70, 80]
    assert [row["refused"] for row in made] == [
        "1 of 1 values (100 %) would be imputed, and the model bears 50 %: pulse (missing)",
        "",
    ]


def test_a_row_is_refused_where_the_server_refused(
    open_hospital: Callable[..., Hospital], make: Make, tmp_path: Path
) -> None:
    folder = stay_risk(tmp_path / "stay-risk", imputed_at_most=0.75)
    hospital = open_hospital(model_dirs=(folder,))
    hospital.set_model("stay-risk", "active")
    put_patient(hospital)
    admit(hospital, 10)
    for name, hours in (("a", 9), ("b", 1), ("old", 30)):
        laboratory(hospital, name, 4, "mmol/L", hours)
        hospital.clock.advance(1)
        hospital.work()
        hospital.clock.advance(60)
    results = [row for row in hospital.results() if row.model == "stay-risk"]
    assert [row.kind for row in results] == ["declined", "prediction", "prediction"]
    moments = tmp_path / "served.csv"
    moments.write_text("patient,time\n" + "".join(f"p1,{row.computed_at.isoformat()}\n" for row in results))
    made = make(list(versions(hospital, "Patient", "Observation", "Encounter")), moments=moments, model=folder)
    assert [row["refused"] for row in made] == [row.reason or "" for row in results]
    for row, result in zip(made, results, strict=True):
        for use in json.loads(result.features):
            if use["name"] != "worst_before":  # a result has it before its transform
                assert use["value"] is None or f"{row[use['name']]:g}" == use["value"]


def test_a_version_that_is_of_nothing_the_table_reads_ends_the_one_before(make: Make, folder: Path) -> None:
    """Its code was wrong, or its patient; the server no longer reads it either."""
    declare(folder, PULSE_OR, ILL)
    other = {"coding": [{"system": "http://loinc.org", "code": "2345-7"}]}
    resources = [
        pulse(80, 0),
        pulse(80, 0, stored=20, version=2, code=other),
        pulse(90, 1),
        pulse(90, 1, stored=10, version=2, subject={"reference": "Group/g"}),
        of_patient(condition("c", "E11"), 0),
        of_patient(condition("c", "I10"), 30, version=2),
    ]
    made = make(resources, [0, 1, 10, 20, 30])
    assert [(row["pulse"], row["ill"]) for row in made] == [(80, 1), (90, 1), (80, 1), (70, 1), (70, 0)]


def test_a_medication_that_a_reference_names_is_the_one_of_the_moment(make: Make, folder: Path) -> None:
    declare(folder, DRUG)
    before, after = ({"lastUpdated": (AT + timedelta(minutes=it)).isoformat()} for it in (10, 20))
    resources = [
        substance("m1", "N02BE01") | {"meta": after},
        of_patient(order("r", **BY_REFERENCE), 0),
        substance("m1", "C01CA03") | {"meta": before},
    ]
    assert [row["drug"] for row in make(resources, [0, 9, 10, 19, 20])] == [0, 0, 1, 1, 0]


def test_without_the_time_of_storing_what_is_stated_is_known_since_the_date_that_it_has(
    make: Make, folder: Path
) -> None:
    declare(folder, ILL, DRUG, STAY)
    end = (AT + timedelta(minutes=30)).isoformat()
    given = {"resourceType": "MedicationAdministration", "id": "d", "status": "completed", **PRESSOR}
    period = {"start": AT.isoformat(), "end": (AT + timedelta(minutes=59)).isoformat()}
    stay = {"resourceType": "Encounter", "id": "e", "status": "finished", "class": {"code": "IMP"}}
    resources = [
        of_patient(condition("c", "E11", recordedDate=end)),
        of_patient(given | {"effectivePeriod": {"start": (AT - timedelta(hours=1)).isoformat(), "end": end}}),
        of_patient(stay | {"period": period}),
        {key: value for key, value in pulse(80, 5).items() if key != "meta"},
    ]
    made = make(resources, [-1, 0, 6, 29, 31], known=Known.ISSUED)
    assert [row["ill"] for row in made] == [0, 0, 0, 0, 1]
    assert [row["drug"] for row in made] == [0, 0, 0, 0, 0]  # when it became known it had ended
    assert [row["count"] for row in made] == [None, None, 1, 1, 1]
    undated = of_patient(condition("c", "E11", onsetDateTime="2019"))
    with pytest.raises(Problem, match="line 1: none of recordedDate, authoredOn and dateAsserted says when it became"):
        make([undated], [0], known=Known.ISSUED)


@pytest.mark.parametrize(
    ("wrong", "detail"),
    [
        (condition("c", "E11") | {"code": "E11"}, "Condition.code: "),
        (order("r", "lost", **PRESSOR), "MedicationRequest.status: "),
        (order("r", **PRESSOR | {"medicationCodeableConcept": []}), "MedicationRequest.medication"),
        (condition("c", "E11") | {"meta": {"versionId": "1"}}, "no meta.lastUpdated says when it was stored"),
    ],
)
def test_a_wrong_line_of_what_is_stated_is_named(make: Make, folder: Path, wrong: Json, detail: str) -> None:
    declare(folder, ILL, DRUG)
    with pytest.raises(Problem) as problem:
        make([PATIENT, of_patient({"meta": PATIENT["meta"]} | wrong)], [0])
    assert problem.value.detail.startswith(f"data.ndjson line 2: {detail}")


def test_what_no_feature_is_made_of_is_not_read_and_may_be_wrong(make: Make, folder: Path) -> None:
    declare(folder, ILL)
    other = condition("c", "I10", onsetDateTime=0) | {"meta": {"versionId": "2", "lastUpdated": "yesterday"}}
    resources = [of_patient(it) for it in (other, order("r", "lost", **PRESSOR), substance("m1", "C01CA03"))]
    assert [row["ill"] for row in make(resources, [0])] == [0]


def test_meds_has_the_conditions_and_medications(make: Make, folder: Path, tmp_path: Path) -> None:
    declare(folder, ILL, DRUG)
    resources = [
        of_patient(condition("c", "E11", onsetDateTime="2019"), 0),
        of_patient(condition("other", "I10"), 0),
        of_patient(order("r", **PRESSOR, authoredOn="2026-01-15T10:00:00Z"), 0),
        of_patient(condition("refuted", "E11"), 0),
        of_patient(condition("refuted", "E11", verified="refuted"), 1, version=2),
    ]
    make(resources, [0], meds=tmp_path / "meds")
    found = [(row["time"], row["code"]) for row in rows(tmp_path / "meds" / "data" / "0.parquet")]
    assert found == [
        (datetime(2019, 1, 1), f"{ICD}//E11//condition"),  # noqa: DTZ001 - the standard's times have no zone
        (datetime(2026, 1, 15, 10), f"{ATC}//C01CA03//medication-request"),  # noqa: DTZ001 - as above
    ]
    codes = {row["code"]: row["parent_codes"] for row in rows(tmp_path / "meds" / "metadata" / "codes.parquet")}
    assert codes[f"{ICD}//E11//condition"] == [f"{ICD}//E11"]
