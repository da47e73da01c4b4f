"""The training table: its rows are what the server computed, and what is wrong in its input is named with its place."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from inference.digest import seal
from inference.testing_folder import PULSE_RISK, pulse_risk
from kernel.errors import Problem

from .hospital import Hospital
from .test_commands import Command, ausculta
from .test_fhir_path import VITALS, observation, post, put_patient, vitals

pytest.importorskip("pyarrow", reason="the extra training is not installed")

from pyarrow import parquet  # noqa: E402 - after the check

NEWS2 = Path(__file__).resolve().parents[2] / "inference" / "models" / "news2"
__all__ = ["ausculta"]


def versions(hospital: Hospital, *types: str) -> Iterator[dict[str, Any]]:
    """Yield every version of the resources that the server holds."""
    for type_ in types:
        for resource in hospital.all(type_):
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


def run(hospital: Hospital) -> None:
    """Let the model answer, after what was sent and before what is sent next."""
    hospital.clock.advance(1)
    hospital.work()
    hospital.clock.advance(60)


def a_day(hospital: Hospital) -> None:
    """Let values come, be corrected, contradict each other, age and be missing, and let the model answer each time."""
    put_patient(hospital)
    for resource in vitals(hospital):
        post(hospital, resource)
        run(hospital)
    for code, value in (("8867-4", 131.0), ("9279-1", 900.0), ("59408-5", 88.0)):
        hospital.clock.advance(1200)
        post(hospital, observation(hospital, code, value, VITALS[code][1]))
        run(hospital)
    newest = hospital.all("Observation?code=8867-4&_sort=-_lastUpdated")[0]
    corrected = newest | {"status": "corrected", "valueQuantity": newest["valueQuantity"] | {"value": 71}}
    httpx.put(f"{hospital.url}/Observation/{newest['id']}", json=corrected)
    run(hospital)
    hospital.clock.advance(7 * 3600)
    post(hospital, observation(hospital, "8310-5", 39.4, "Cel"))
    run(hospital)


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
