"""Both databases find the same, in every form of a search."""

from collections.abc import Iterator

from fhir_adapter.store.document import encode
from fhir_adapter.store.search.find import find, total
from fhir_adapter.store.search.includes import included
from fhir_adapter.store.search.parse import parse
from fhir_adapter.store.validate import Validator
from fhir_adapter.store.write import StoreWriter, Target
from kernel.clock import RandomIds
from kernel.db import Database
from kernel.testing import FakeClock
from privacy.audit import AuditLog
from privacy.keys import KeyRing
from privacy.principal import Principal

from .test_search_forms import MATCHES, resources

CLIENT = Principal(client="test", client_address="127.0.0.1")


def stock(database: Database, clock: FakeClock, folder: object) -> None:
    audit = AuditLog(KeyRing.open_or_create(folder / "keys.json"), clock, RandomIds())  # type: ignore[operator]
    writer = StoreWriter(Validator(), audit, (), clock, RandomIds())
    for resource in resources():
        clock.advance(1)
        prepared = writer.prepare_update(Target(type=resource["resourceType"], id=resource["id"]), encode(resource))
        database.write(lambda tx, prepared=prepared: writer.apply(tx, prepared, CLIENT))


def test_each_search_finds_its_matches(database: Database, clock: FakeClock, tmp_path: object) -> None:
    stock(database, clock, tmp_path)
    with database.read() as connection:
        for query, expected in MATCHES:
            kind, _, text = query.replace("%25", "%").partition("?")
            parsed = parse(kind, text.replace("%", "%25"))
            assert sorted(it.id for it in find(connection, parsed).found) == sorted(expected.split()), query
            assert total(connection, parsed) == len(expected.split()), query


def ids_of_pages(database: Database, kind: str, text: str) -> Iterator[list[str]]:
    cursor = ""
    while True:
        parsed = parse(kind, text + cursor)
        with database.read() as connection:
            page = find(connection, parsed)
        yield [it.id for it in page.found]
        if page.cursor is None:
            return
        cursor = f"&_cursor={page.cursor.text()}"


def test_each_order_gives_each_match_once(database: Database, clock: FakeClock, tmp_path: object) -> None:
    stock(database, clock, tmp_path)
    for sort in ("_lastUpdated", "-_lastUpdated", "_id", "code,-_id", "-date,code", "value-quantity,_id"):
        found = [name for page in ids_of_pages(database, "Observation", f"_count=2&_sort={sort}") for name in page]
        assert len(found) == len(set(found)) == 7, sort
    assert [it for page in ids_of_pages(database, "Patient", "_count=1&_sort=family") for it in page] == ["ada", "bob"]


def test_inclusions_are_found(database: Database, clock: FakeClock, tmp_path: object) -> None:
    stock(database, clock, tmp_path)
    parsed = parse("Patient", "_id=bob&_include=Patient:*&_revinclude=Observation:subject")
    with database.read() as connection:
        page = find(connection, parsed)
        names = sorted(it.id for it in included(connection, page.found, parsed.inclusions))
    assert names == ["dr", "glucose-bare", "glucose-g", "glucose-low", "south"]
