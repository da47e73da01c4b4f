"""What a subscription watches is what a search finds: each criterion is compared with the search itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from fhir_adapter.store.search.find import find
from fhir_adapter.store.search.parse import parse
from fhir_adapter.store.upgrade import prepare_database
from fhir_adapter.store.validate import Validator
from fhir_adapter.store.versions import StoredVersion
from fhir_adapter.store.write import StoreWriter
from fhir_adapter.subscriptions.matching import HIDDEN, Stored, matches, needs_others
from kernel.clock import RandomIds
from kernel.db import Database
from kernel.errors import Problem
from kernel.testing import FakeClock
from privacy.audit import AuditLog
from privacy.keys import KeyRing
from privacy.principal import SERVER

TYPES = ("Observation", "Patient", "Encounter", "RiskAssessment", "DiagnosticReport", "ServiceRequest", "Library")

VALUES = {
    "token": ("final", "http://loinc.org|8867-4", "8867-4", "|x", "http://loinc.org|", "active", "true"),
    "string": ("a", "Peter", "chalmers", "Pe%r", "é"),
    "reference": ("Patient/example", "example", "Patient/nobody", "Practitioner/example"),
    "date": ("2012", "ge2012-01-01", "lt2000", "ne2013-04-02", "ap2013", "sa1974-12-25", "eb2020-01-01T00:00:00Z"),
    "number": ("1", "gt0.5", "le3", "ne2"),
    "quantity": ("gt5", "6.3|http://unitsofmeasure.org|mmol/L", "lt200||mg/dL", "ap140", "ne7"),
    "uri": ("http://hl7.org/fhir/ValueSet/example", "http://hl7.org"),
    "composite": ("http://loinc.org|8480-6$gt100", "8480-6$lt60", "8310-5$gt30"),
}
MODIFIERS = {
    "token": ("", ":not", ":missing", ":text", ":in"),
    "string": ("", ":exact", ":contains", ":missing"),
    "reference": ("", ":missing", ":identifier"),
    "uri": ("", ":below", ":above", ":missing"),
}


class World:
    """The official examples of some types, stored."""

    def __init__(self, folder: Path, examples: Path) -> None:
        self.database = Database.open(f"sqlite:///{folder / 'fhir.db'}")
        prepare_database(self.database)
        clock = FakeClock()
        audit = AuditLog(KeyRing.open_or_create(folder / "keys.json"), clock, RandomIds())
        writer = StoreWriter(Validator(), audit, (), clock, RandomIds())
        self.versions: dict[str, list[StoredVersion]] = {kind: [] for kind in TYPES}
        for path in sorted(examples.rglob("*.json")):
            resource = orjson.loads(path.read_bytes())
            if isinstance(resource, dict) and resource.get("resourceType") in TYPES:
                self._store(writer, resource)
        system, code = HIDDEN
        for kind in ("Observation", "RiskAssessment"):
            resource = orjson.loads(self.versions[kind][0].content) | {
                "id": "shadow",
                "meta": {"tag": [{"system": system, "code": code}]},
            }
            self._store(writer, resource)

    def _store(self, writer: StoreWriter, resource: dict[str, Any]) -> None:
        try:
            prepared = writer.prepare([resource])
        except Problem:  # an example that is not valid
            return
        (done,) = self.database.write(lambda tx: writer.apply(tx, prepared, SERVER))
        self.versions[done.version.type].append(done.version)

    def found(self, kind: str, query: str) -> set[str]:
        with self.database.read() as connection:
            return {it.id for it in find(connection, parse(kind, f"{query}&_count=1000"), hidden_tag=HIDDEN).found}

    def watched(self, kind: str, query: str) -> set[str]:
        parsed = parse(kind, query)
        return {it.id for it in self.versions[kind] if matches(parsed, Stored(it))}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Iterator[World]:
    folder = next((it for it in (shared / "data").iterdir() if it.name == "fhir-r4-examples"), None)
    assert folder is not None
    opened = World(tmp_path_factory.mktemp("matching"), folder)
    yield opened
    opened.database.close()


def queries(kind: str) -> Iterator[str]:
    """Yield a query of each search parameter, form and value that is served."""
    from fhir_adapter.store.search.parameters import of

    for parameter in of(kind).values():
        for modifier in MODIFIERS.get(parameter.kind, ("",)):
            values: tuple[str, ...] = VALUES[parameter.kind]
            if modifier == ":missing":
                values = ("true", "false")
            elif modifier == ":in":
                values = ("http://hl7.org/fhir/ValueSet/observation-status",)
            yield from (f"{parameter.name}{modifier}={value}" for value in (*values, f"{values[0]},{values[-1]}"))
    yield "_id=example,f001"
    yield f"_tag={HIDDEN[1]}"
    yield "status=final&_lastUpdated=gt2000"


@pytest.mark.parametrize("kind", TYPES)
def test_every_criterion_matches_what_the_search_finds(world: World, kind: str) -> None:
    compared = found = 0
    for query in queries(kind):
        try:
            if needs_others(parse(kind, query)):
                continue
        except Problem:  # the search does not serve it
            continue
        searched = world.found(kind, query)
        assert world.watched(kind, query) == searched, query
        compared += 1
        found += bool(searched)
    assert compared > 60
    assert found > 15
    assert world.versions[kind]


def test_a_chain_needs_other_resources() -> None:
    assert needs_others(parse("Observation", "subject:Patient.name=x"))
    assert needs_others(parse("Patient", "_has:Observation:patient:code=1"))
    assert not needs_others(parse("Observation", "code-value-quantity=8480-6$gt100"))
