"""The training table: its rows are what the server computed, and what is wrong in its input is named with its place."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import isnan
from pathlib import Path
from typing import Any, get_args

import httpx
import orjson
import pytest
import yaml

from fhir_adapter.facts import subject
from fhir_adapter.stated import KINDS
from inference.contract import FactKind, FactsInput, SeriesInput
from inference.features.extract import compile_features
from inference.features.records import FeatureSpec, Stated
from inference.features.spec import parse_features
from inference.features.values import FeatureValue
from inference.manifest import parse_manifest
from inference.testing_folder import PULSE_RISK, pulse_risk
from kernel.errors import Problem
from service.commands import command_context
from service.commands.models_table import table
from service.flows.inputs import read_input
from service.flows.inputs.contract import InputRequest
from service.training.reading import Known
from service.training.rows import Rows, TableModel

from .hospital import Hospital
from .story_of_a_stay import UNITS, a_stay, features_of_every_kind
from .test_commands import Command, ausculta
from .test_fhir_path import VITALS, observation, post, put_patient, vitals

pytest.importorskip("pyarrow", reason="the extra training is not installed")

from pyarrow import parquet

Json = dict[str, Any]
Make = Callable[..., list[Json]]

NEWS2 = Path(__file__).resolve().parents[2] / "inference" / "models" / "news2"
__all__ = ["ausculta"]


@pytest.fixture(autouse=True)
def log_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the log of this process as it is; a command sets up its own."""
    monkeypatch.setattr(command_context, "configure_logging", lambda **_: None)


def versions(hospital: Hospital, *types: str) -> Iterator[dict[str, Any]]:
    """Yield every version of the resources that the server holds."""
    for type_ in types:
        for resource in hospital.all(f"{type_}?_count=1000"):
            page = httpx.get(f"{hospital.url}/{type_}/{resource['id']}/_history").json()
            yield from (entry["resource"] for entry in page["entry"])


def ndjson(path: Path, resources: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> Path:
    path.write_bytes(b"".join(orjson.dumps(resource) + b"\n" for resource in resources))
    return path


def rows(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return found


def written(value: object) -> object:
    """Return a value as a stored result has it: numbers as text, as they were written."""
    return f"{value:g}" if isinstance(value, float) else value


def run(hospital: Hospital, seen: Callable[[], None] = lambda: None) -> None:
    """Let the model answer, after what was sent and before what is sent next."""
    hospital.clock.advance(1)
    hospital.work()
    seen()
    hospital.clock.advance(60)


def a_day(hospital: Hospital, seen: Callable[[], None] = lambda: None) -> None:
    """Let values come, be corrected, contradict each other, age and be missing, and let the model answer each time."""
    put_patient(hospital)
    for resource in vitals(hospital):
        post(hospital, resource)
        run(hospital, seen)
    for code, value in (("8867-4", 131.0), ("9279-1", 900.0), ("59408-5", 88.0)):
        hospital.clock.advance(1200)
        post(hospital, observation(hospital, code, value, VITALS[code][1]))
        run(hospital, seen)
    newest = hospital.all("Observation?code=8867-4&_sort=-_lastUpdated")[0]
    corrected = newest | {"status": "corrected", "valueQuantity": newest["valueQuantity"] | {"value": 71}}
    httpx.put(f"{hospital.url}/Observation/{newest['id']}", json=corrected)
    run(hospital, seen)
    hospital.clock.advance(7 * 3600)
    post(hospital, observation(hospital, "8310-5", 39.4, "Cel"))
    run(hospital, seen)


def test_the_rows_are_those_of_the_server(hospital: Hospital, ausculta: Command, tmp_path: Path) -> None:
    a_day(hospital)
    results = [row for row in hospital.results() if row.model == "news2"]
    assert len(results) > 8
    data = ndjson(tmp_path / "all.ndjson", list(versions(hospital, "Patient", "Observation")))
    moments = tmp_path / "moments.csv"
    moments.write_text("patient,time\n" + "".join(f"p1,{row.computed_at.isoformat()}\n" for row in results))
    made = ausculta(
        *("models", "table", str(data), "--model", str(NEWS2), "--moments", str(moments), "--out", "table.parquet")
    )
    assert made.returncode == 0, made.stderr
    table = {row["time"]: row for row in rows(tmp_path / "table.parquet")}
    assert len(table) == len({row.computed_at for row in results})
    compared = 0
    for result in results:
        row = table[result.computed_at]
        assert row["patient"] == "Patient/p1"
        served = {use["name"]: use["value"] for use in json.loads(result.features)}
        assert {name: written(row[name]) for name in served} == served
        assert row["refused"] in (result.reason or "")
        assert bool(row["refused"]) == (result.kind == "declined")
        compared += sum(value is not None for value in served.values())
    assert compared > 40


@pytest.mark.parametrize("kind", ["facts", "series"])
def test_features_of_every_kind_are_those_that_the_server_reads_at_the_moment(
    hospital: Hospital, make: Make, folder: Path, tmp_path: Path, kind: str
) -> None:
    declared = features_of_every_kind(with_defaults=kind == "facts")
    features = parse_features(declared)
    manifest = (folder / "model.yaml").read_text()
    if kind == "series":
        manifest = manifest.replace("[{name: facts, kind: facts}]", GRID)
    (folder / "features.yaml").write_text(yaml.safe_dump(declared))
    (folder / "model.yaml").write_text(manifest)
    application = hospital.application
    served: dict[datetime, Json] = {}

    def seen() -> None:
        now = hospital.clock.now()
        with application.database.read() as connection:
            (model,) = (it for it in application.catalogue.serving(connection) if it.row.name == "news2")
            patient = subject(connection, application.store, "Patient/p1")
        model = replace(model, features=features, manifest=parse_manifest(yaml.safe_load(manifest)))
        given = read_input(application, InputRequest(model=model, subject=patient, at=now))
        if isinstance(given, FactsInput):
            served[now] = scalars(compile_features(features)(given).readings)
        elif isinstance(given, SeriesInput):
            served[now] = grid(given)

    a_day(hospital, seen)
    a_stay(hospital, lambda: run(hospital, seen))
    assert len(served) > 50
    moments = tmp_path / "served.csv"
    moments.write_text("patient,time\n" + "".join(f"p1,{at.isoformat()}\n" for at in served))
    made = {row["time"]: row for row in make(list(versions(hospital, "Patient", *KINDS_OF_DATA)), moments=moments)}
    assert made.keys() == served.keys()
    for at, expected in served.items():
        differing = {name: (made[at][name], value) for name, value in expected.items() if made[at][name] != value}
        assert not differing, at
    constant = {spec.name for spec in features if len({str(row[spec.name]) for row in served.values()}) == 1}
    of_pulse = {name for name in constant if "8867-4" in name or not any(code in name for code in UNITS)}
    assert of_pulse == {"age", "sex"}  # what never changes would show nothing


KINDS_OF_DATA = (
    "Observation",
    "Encounter",
    "Condition",
    "MedicationRequest",
    "MedicationStatement",
    "MedicationAdministration",
    "Medication",
)
GRID = "[{name: series, kind: series, hours: 12, step_hours: 2}]"


def scalars(readings: Mapping[str, FeatureValue | None]) -> Json:
    """Return the values of features as a table has them."""
    found = {name: None if it is None else it.value for name, it in readings.items()}
    return {name: float(it) if isinstance(it, Decimal) else it for name, it in found.items()}


def grid(series: SeriesInput) -> Json:
    """Return the values of a time series as a table has them."""
    columns = zip(series.features, series.values.T.tolist(), strict=True)
    return {name: [None if isnan(it) else it for it in column] for name, column in columns}


def test_without_moments_a_row_is_made_whenever_the_trigger_runs_the_model(
    hospital: Hospital, ausculta: Command, tmp_path: Path
) -> None:
    a_day(hospital)
    data = ndjson(tmp_path / "all.ndjson", list(versions(hospital, "Patient", "Observation")))
    made = ausculta("models", "table", str(data), "--model", str(NEWS2), "--out", "table.parquet")
    assert made.returncode == 0, made.stderr
    stored = {datetime.fromisoformat(it["meta"]["lastUpdated"]) for it in versions(hospital, "Observation")}
    ran = {row.computed_at for row in hospital.results() if row.model == "news2"}
    times = {row["time"] for row in rows(tmp_path / "table.parquet")}
    assert times <= stored
    assert {at + timedelta(seconds=1) for at in times} == ran  # the test lets the model answer a second later


def pulse(value: float, minute: int, *, stored: int | None = None, version: int = 1, **changes: Any) -> Json:
    """Return a pulse of a minute of a day, and when the server stored it."""
    known = AT + timedelta(minutes=minute if stored is None else stored)
    return {
        "resourceType": "Observation",
        "id": f"o{minute}",
        "meta": {"versionId": str(version), "lastUpdated": known.isoformat()},
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": (AT + timedelta(minutes=minute)).isoformat(),
        "valueQuantity": {"value": value, "system": "http://unitsofmeasure.org", "code": "/min"},
        **changes,
    }


AT = datetime(2026, 1, 15, 11, tzinfo=UTC)
PATIENT: Json = {
    "resourceType": "Patient",
    "id": "p1",
    "meta": {"lastUpdated": "2026-01-15T00:00:00Z"},
    "birthDate": "1950-01-01",
    "gender": "female",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the declarations of a model of the pulse."""
    return pulse_risk(tmp_path / PULSE_RISK)


@pytest.fixture
def make(tmp_path: Path, folder: Path) -> Make:
    """Make a table of some resources, as the command does; return its rows."""

    def made(resources: list[Json], moments: list[int] | Path | None = None, **options: Any) -> list[Json]:
        data = ndjson(tmp_path / "data.ndjson", resources)
        csv = moments if isinstance(moments, Path) else None
        if isinstance(moments, list):
            csv = tmp_path / "moments.csv"
            times = [f"Patient/p1,{(AT + timedelta(minutes=minute)).isoformat()}" for minute in moments]
            csv.write_text("\n".join(["patient,time", *times]))
        out = tmp_path / "table.parquet"
        given = {"model": folder, "moments": csv, **options}
        table([data], out, **given)
        return rows(out)

    return made


def pulses(made: list[Json]) -> list[float | None]:
    return [row["pulse"] for row in made]


def test_what_became_known_later_is_not_in_a_row(make: Make) -> None:
    late = pulse(150, 1, stored=30)
    assert pulses(make([pulse(80, 0), late], [0, 10, 29, 30])) == [80, 80, 80, 150]


def test_of_each_observation_the_version_of_the_moment_counts(make: Make) -> None:
    sent = pulse(80, 0)
    corrected = pulse(90, 0, stored=20, version=2, status="corrected")
    retracted = pulse(90, 0, stored=40, version=3, status="entered-in-error")
    assert pulses(make([retracted, corrected, sent], [-1, 0, 19, 20, 39, 40])) == [None, 80, 80, 90, 90, None]


def test_a_patient_without_resources_has_a_row_without_values(make: Make) -> None:
    assert make([], [0]) == [
        {"patient": "Patient/p1", "subject_id": 7739502578709116559, "time": AT, "pulse": None}
        | {"refused": "1 of 1 values cannot be used, and the model bears 0: pulse (missing)"}
    ]


def test_a_patient_who_is_test_data_has_no_rows(make: Make) -> None:
    label = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}
    test_data = PATIENT | {"meta": PATIENT["meta"] | {"security": [label]}}
    assert make([test_data, pulse(80, 0)], [0]) == []


def test_the_order_of_the_lines_and_of_the_files_does_not_count(make: Make, tmp_path: Path) -> None:
    values = [pulse(80 + minute, minute) for minute in range(20)]
    first = make([PATIENT, *values], list(range(20)))
    assert make([*reversed(values), PATIENT], list(reversed(range(20)))) == first
    assert pulses(first) == [80 + minute for minute in range(20)]


def test_values_that_settle_make_one_row_after_the_first_of_them(make: Make, folder: Path) -> None:
    declared = (folder / "model.yaml").read_text()
    (folder / "model.yaml").write_text(declared.replace("codes: [8867-4]}", "codes: [8867-4], settle_seconds: 300}"))
    made = make([pulse(80, 0), pulse(81, 2), pulse(82, 4), pulse(90, 20)])
    assert [(row["time"], row["pulse"]) for row in made] == [
        (AT + timedelta(minutes=5), 82),
        (AT + timedelta(minutes=25), 90),
    ]


def test_files_without_the_time_of_storing_say_by_issued_when_something_became_known(make: Make) -> None:
    plain, issued = pulse(80, 0), pulse(90, 1, issued=(AT + timedelta(minutes=30)).isoformat())
    of_another_system = [{name: it[name] for name in it if name != "meta"} for it in (plain, issued)]
    assert pulses(make(of_another_system, [5, 29, 30], known=Known.ISSUED)) == [80, 80, 90]


def test_a_model_of_a_time_series_has_a_list_for_each_feature(make: Make, folder: Path) -> None:
    declared = (folder / "model.yaml").read_text()
    grid = "inputs: [{name: series, kind: series, hours: 3, step_hours: 1}]"
    (folder / "model.yaml").write_text(declared.replace("inputs: [{name: facts, kind: facts}]", grid))
    (row,) = make([pulse(80, 0), pulse(90, 100), pulse(95, 110)], [130])
    assert row["pulse"] == [80, None, 95]


def test_meds_has_the_birth_the_sex_and_each_value(make: Make, tmp_path: Path) -> None:
    make([PATIENT, pulse(90, 10), pulse(80, 0)], [0], meds=tmp_path / "meds")
    data = parquet.read_table(tmp_path / "meds" / "data" / "0.parquet")
    assert [(it.name, str(it.type)) for it in data.schema] == [
        ("subject_id", "int64"),
        ("time", "timestamp[us]"),
        ("code", "string"),
        ("numeric_value", "float"),
        ("text_value", "string"),
    ]
    events = [(row["time"], row["code"], row["numeric_value"]) for row in data.to_pylist()]
    assert events == [
        (None, "GENDER//female", None),
        (datetime(1950, 1, 1), "MEDS_BIRTH", None),  # noqa: DTZ001 - the standard's times have no zone
        (datetime(2026, 1, 15, 11), "LOINC//8867-4///min", 80),  # noqa: DTZ001 - as above
        (datetime(2026, 1, 15, 11, 10), "LOINC//8867-4///min", 90),  # noqa: DTZ001 - as above
    ]
    codes = {row["code"]: row["parent_codes"] for row in rows(tmp_path / "meds" / "metadata" / "codes.parquet")}
    assert codes["LOINC//8867-4///min"] == ["LOINC//8867-4"]
    described = json.loads((tmp_path / "meds" / "metadata" / "dataset.json").read_text())
    assert described["dataset_name"] == "meds"


def test_meds_has_the_newest_version_of_each_observation(make: Make, tmp_path: Path) -> None:
    words = {"coding": [{"system": "http://loinc.org", "code": "LA9340-6"}]}
    answer = pulse(0, 5, valueCodeableConcept=words)
    absent = pulse(0, 7, dataAbsentReason={"text": "moved"})
    for without in (answer, absent):
        del without["valueQuantity"]
    sent, corrected = pulse(80, 0), pulse(90, 0, stored=20, version=2, status="corrected")
    make([sent, corrected, answer, absent], [0], meds=tmp_path / "meds")
    found = [(row["numeric_value"], row["text_value"]) for row in rows(tmp_path / "meds" / "data" / "0.parquet")]
    assert found == [(90, None), (None, "LA9340-6")]


def test_the_rows_of_a_view(make: Make, tmp_path: Path) -> None:
    columns = [
        {"name": "key", "path": "getResourceKey()"},
        {"name": "value", "path": "value.ofType(Quantity).value", "type": "decimal"},
        {"name": "low", "path": "value.ofType(Quantity).value.lowBoundary()", "type": "decimal"},
        {"name": "final", "path": "status = 'final'"},
        {"name": "codes", "path": "code.coding.code", "collection": True},
    ]
    view = tmp_path / "view.json"
    view.write_text(json.dumps({"resource": "Observation", "select": [{"column": columns}]}))
    made = make([PATIENT, pulse(80, 0), pulse(80.5, 1)], model=None, view=view)
    assert made == [
        {"key": "Observation/o0", "value": 80, "low": 79.5, "final": True, "codes": ["8867-4"]},
        {"key": "Observation/o1", "value": 80.5, "low": 80.45, "final": True, "codes": ["8867-4"]},
    ]


@pytest.mark.parametrize(
    ("wrong", "detail"),
    [
        (b"{", "data.ndjson line 2: the line is not JSON"),
        (b"[]", "data.ndjson line 2: the line is not a FHIR resource"),
        (b'{"resourceType": "Patient", "id": "p2"}', "data.ndjson line 2: no meta.lastUpdated says when it was stored"),
        (pulse(80, 0) | {"code": "8867-4"}, "data.ndjson line 2: Observation.code: "),
        (pulse(80, 0) | {"status": "done"}, "data.ndjson line 2: Observation.status: "),
        (pulse(80, 0) | {"effectiveDateTime": "today"}, "data.ndjson line 2: Observation.effectiveDateTime: "),
        (PATIENT | {"birthDate": "1950"} | {"gender": "?"}, "data.ndjson line 2: Patient.gender: "),
    ],
)
def test_a_wrong_line_is_named_and_nothing_is_left_behind(
    folder: Path, tmp_path: Path, wrong: bytes | Json, detail: str
) -> None:
    data = ndjson(tmp_path / "data.ndjson", [PATIENT])
    data.write_bytes(data.read_bytes() + (wrong if isinstance(wrong, bytes) else orjson.dumps(wrong)))
    before = set(tmp_path.iterdir())
    with pytest.raises(Problem) as problem:
        table([data], tmp_path / "table.parquet", model=folder)
    assert problem.value.detail.startswith(detail)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("written_so", "detail"),
    [
        ("patient,at\np1,x\n", "moments.csv line 1: there is no column time"),
        ("patient,time\np1,yesterday\n", "moments.csv line 2: the time is not of the form 2026-01-15T11:00:00Z"),
        ("patient,time\n\np1,2026-01-15T11:00:00\n", "moments.csv line 3: the time has no time zone"),
        ("patient,time\n,2026-01-15T11:00:00Z\n", "moments.csv line 2: the patient is missing"),
    ],
)
def test_a_wrong_moment_is_named(folder: Path, tmp_path: Path, written_so: str, detail: str) -> None:
    (tmp_path / "moments.csv").write_text(written_so)
    with pytest.raises(Problem) as problem:
        table([ndjson(tmp_path / "data.ndjson", [])], tmp_path / "t", model=folder, moments=tmp_path / "moments.csv")
    assert problem.value.detail == detail


def test_a_wrong_feature_is_named_by_its_key(folder: Path, tmp_path: Path) -> None:
    (folder / "features.yaml").write_text("features: [{name: time, title: x, missing: nan}]")
    with pytest.raises(Problem, match=r"features\.yaml\.features\[0\]\.window is missing"):
        table([tmp_path], tmp_path / "t", model=folder)
    (folder / "features.yaml").write_text("features: [{name: time, title: x, missing: nan, subject: age}]")
    with pytest.raises(Problem, match=r"features\.yaml\.features: time is a column of every table"):
        table([tmp_path], tmp_path / "t", model=folder)


def test_features_alone_need_moments(folder: Path, make: Make) -> None:
    (folder / "model.yaml").unlink()
    assert pulses(make([pulse(80, 0)], [0])) == [80]
    with pytest.raises(Problem, match="no codes of Observations trigger the model; see --moments"):
        make([pulse(80, 0)])


def test_a_value_that_its_column_cannot_hold_is_named(make: Make, tmp_path: Path) -> None:
    view = tmp_path / "view.json"
    column = {"name": "it", "path": "status", "type": "integer"}
    view.write_text(json.dumps({"resource": "Observation", "select": [{"column": [column]}]}))
    with pytest.raises(Problem, match=r"data\.ndjson line 2: the column it cannot hold the value"):
        make([PATIENT, pulse(80, 0)], model=None, view=view)


def test_a_feature_of_what_the_table_does_not_read_is_refused() -> None:
    (spec,) = parse_features({"features": [{"name": "a", "title": "age", "subject": "age", "missing": "nan"}]})
    with pytest.raises(Problem, match="a is of nothing that a training table reads"):
        Rows(TableModel(features=(replace(spec, subject=None),), manifest=None))


def test_the_table_knows_all_that_features_are_made_of() -> None:
    """Whoever adds a field lets the table fill it as ``service/flows/inputs`` does, and compares it with the server."""
    assert {one.name for one in fields(FactsInput)} == {"subject", "facts", "at", "clock_tolerance", "admission"}
    of_window = {"hours", "take", "offset", "since_admission", "first_hours"}
    of_values = {"missing", "default", "transform", "indicates", "declared"}
    made_of = {"sources", "subject", "missing_of", "stated"}
    assert {one.name for one in fields(FeatureSpec)} == {"name", "title"} | of_window | of_values | made_of
    assert {one.name for one in fields(Stated)} == {"codes", "kinds", "statuses"}
    assert set(get_args(FactKind)) == {"observation", *KINDS.values()}


def test_files_and_folders_that_are_not_there_are_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(Problem, match=r"there are no \.ndjson, \.jsonl or \.json files"):
        table([tmp_path / "empty"], tmp_path / "t", model=folder)
    with pytest.raises(Problem, match=r"there is no file x\.ndjson"):
        table([tmp_path / "x.ndjson"], tmp_path / "t", model=folder)
    with pytest.raises(Problem, match="there is no folder nowhere to write t in"):
        table([tmp_path], tmp_path / "nowhere" / "t", model=folder)


def test_one_of_model_and_view_is_named(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="say --model or --view, and not both"):
        table([tmp_path], tmp_path / "t")


def test_without_the_extra_the_refusal_says_how_to_install_it(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(Problem, match=r"pip install 'ausculta\[training\]'"):
        make([pulse(80, 0)], [0])
