"""What the references between the entries of a transaction name (FHIR R4, bundle.html#references, http.html#trules)."""

import threading
from pathlib import Path
from typing import Any

import pytest

from fhir_adapter.store import resolve
from fhir_adapter.store.document import encode
from fhir_adapter.store.problems import PreconditionFailed, TooCostly
from fhir_adapter.store.search.find import Page, find
from fhir_adapter.store.search.parse import parse
from fhir_adapter.store.validate import Validator
from fhir_adapter.store.write import StoreWriter
from kernel.clock import RandomIds
from kernel.db import Database
from kernel.testing import FakeClock
from privacy.audit import AuditLog
from privacy.keys import KeyRing
from privacy.principal import Principal

from .examples import entry, observation, patient

CLIENT = Principal(client="test", client_address="127.0.0.1")
EHR = "http://ehr.example/fhir"


class Transactions:
    """Carries out transactions and says whose the Observations are."""

    def __init__(self, database: Database, writer: StoreWriter) -> None:
        self._database, self._writer = database, writer

    def send(self, *entries: dict[str, Any]) -> list[str]:
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}
        prepared = self._writer.prepare_bundle(encode(bundle)).changes
        done = self._database.write(lambda tx: self._writer.apply(tx, prepared, CLIENT))
        return [f"{it.version.type}/{it.version.id}" for it in done]

    def owners(self) -> set[str | None]:
        with self._database.read() as connection:
            return {it.patient for it in find(connection, parse("Observation", "")).found}


@pytest.fixture
def transactions(database: Database, clock: FakeClock, tmp_path: Path) -> Transactions:
    audit = AuditLog(KeyRing.open_or_create(tmp_path / "keys.json"), clock, RandomIds())
    return Transactions(database, StoreWriter(Validator(), audit, (), clock, RandomIds()))


def of(reference: str, **more: Any) -> dict[str, Any]:
    return observation(subject={"reference": reference}, **more)


def with_mrn(resource_id: str, mrn: str, **more: Any) -> dict[str, Any]:
    return patient(resource_id, identifier=[{"system": "urn:oid:1.2.3", "value": mrn}], **more)


@pytest.mark.parametrize("reference", ["Patient/123", "Patient/123/_history/1", f"{EHR}/Patient/123/_history/1"])
def test_a_relative_reference_names_the_entry_of_the_same_server(transactions: Transactions, reference: str) -> None:
    transactions.send(entry("PUT", "Patient/123", patient("123")))
    made, _ = transactions.send(
        entry("POST", "Patient", with_mrn("123", "another"), fullUrl=f"{EHR}/Patient/123"),
        entry("POST", "Observation", of(reference), fullUrl=f"{EHR}/Observation/o1"),
    )
    assert made != "Patient/123"
    assert transactions.owners() == {made}


def test_a_relative_reference_names_what_a_conditional_create_finds(transactions: Transactions) -> None:
    transactions.send(entry("PUT", "Patient/123", patient("123")), entry("PUT", "Patient/ours", patient("ours")))
    transactions.send(
        entry("POST", "Patient", patient("ours"), fullUrl=f"{EHR}/Patient/123", ifNoneExist="identifier=MRN-ours"),
        entry("POST", "Observation", of("Patient/123"), fullUrl=f"{EHR}/Observation/o1"),
    )
    assert transactions.owners() == {"Patient/ours"}


@pytest.mark.parametrize(
    "full_url", ["http://other.example/fhir/Observation/o1", "urn:uuid:6f1c2a52-6f0c-5a6e-9f4e-0a7f6f2d8a11", ""]
)
def test_a_relative_reference_of_another_server_names_no_entry(transactions: Transactions, full_url: str) -> None:
    more = {"fullUrl": full_url} if full_url else {}
    transactions.send(
        entry("POST", "Patient", patient("123"), fullUrl=f"{EHR}/Patient/123"),
        entry("POST", "Observation", of("Patient/123"), **more),
    )
    assert transactions.owners() == {"Patient/123"}


def test_a_relative_link_of_each_server_names_the_entry_of_its_own(transactions: Transactions) -> None:
    other = "https://other.example/r4"
    first, second, *_ = transactions.send(
        entry("POST", "Patient", patient("1"), fullUrl=f"{EHR}/Patient/1"),
        entry("POST", "Patient", with_mrn("1", "2"), fullUrl=f"{other}/Patient/1"),
        entry("POST", "Observation", of("Patient/1"), fullUrl=f"{EHR}/Observation/o"),
    )
    assert transactions.owners() == {first}
    transactions.send(entry("POST", "Observation", of(second), fullUrl=f"{other}/Observation/o"))
    assert transactions.owners() == {first, second}


def test_a_conditional_reference_names_what_meets_it_after_the_changes(transactions: Transactions) -> None:
    transactions.send(entry("PUT", "Patient/a", with_mrn("a", "mrn")))
    transactions.send(
        entry("POST", "Observation", of("Patient?identifier=mrn")),
        entry("PUT", "Patient/a", with_mrn("a", "mrn-old")),
        entry("PUT", "Patient/b", with_mrn("b", "mrn")),
    )
    assert transactions.owners() == {"Patient/b"}


def test_a_conditional_reference_names_what_the_transaction_creates(transactions: Transactions) -> None:
    _, made = transactions.send(
        entry("POST", "Observation", of("Patient?identifier=mrn")),
        entry("POST", "Patient", with_mrn("a", "mrn")),
    )
    assert transactions.owners() == {made}


def test_a_conditional_reference_to_what_the_transaction_deletes_fails(transactions: Transactions) -> None:
    transactions.send(entry("PUT", "Patient/a", with_mrn("a", "mrn")))
    with pytest.raises(PreconditionFailed):
        transactions.send(
            entry("POST", "Observation", of("Patient?identifier=mrn")),
            entry("DELETE", "Patient/a"),
        )
    assert transactions.owners() == set()


def test_a_resource_with_a_conditional_reference_is_named_by_another_one(transactions: Transactions) -> None:
    organization = {"resourceType": "Organization", "id": "o", "identifier": [{"value": "x"}]}
    managed = {"managingOrganization": {"reference": "Organization?identifier=x"}}
    transactions.send(entry("PUT", "Patient/a", with_mrn("a", "mrn")))
    transactions.send(
        entry("POST", "Observation", of("Patient?identifier=mrn")),
        entry("PUT", "Patient/a", with_mrn("a", "mrn-old", **managed)),
        entry("PUT", "Patient/b", with_mrn("b", "mrn", **managed)),
        entry("PUT", "Organization/o", organization),
    )
    assert transactions.owners() == {"Patient/b"}


def test_a_conditional_reference_that_its_own_resource_changes_is_refused(transactions: Transactions) -> None:
    """Whether the reference names a or b depends on which of the two is written first."""
    link = {"link": [{"other": {"reference": "Patient?identifier=mrn"}, "type": "seealso"}]}
    transactions.send(entry("PUT", "Patient/a", with_mrn("a", "mrn")))
    with pytest.raises(PreconditionFailed):
        transactions.send(
            entry("PUT", "Patient/a", with_mrn("a", "mrn-old", **link)),
            entry("PUT", "Patient/b", with_mrn("b", "mrn", **link)),
        )


def test_the_conditions_of_a_transaction_are_searched_in_a_limited_time_together(
    transactions: Transactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each search takes a second by this clock."""
    seconds = iter(range(1000))
    monkeypatch.setattr(resolve, "MOST_SECONDS", 3.0)
    monkeypatch.setattr(resolve, "CLOCKS", dict.fromkeys(resolve.CLOCKS, lambda: next(seconds)))

    def creates(number: int) -> list[dict[str, Any]]:
        return [
            entry("POST", "Patient", with_mrn("x", f"{number}-{it}"), ifNoneExist=f"identifier={number}-{it}")
            for it in range(number)
        ]

    transactions.send(*creates(1))
    with pytest.raises(TooCostly):
        transactions.send(*creates(2))  # two searches before the changes, and two after them
    with pytest.raises(TooCostly):
        transactions.send(
            *(entry("PUT", f"Patient/p{it}", patient(f"p{it}")) for it in range(4)),
            *(entry("POST", "Observation", of(f"Patient?identifier=MRN-p{it}")) for it in range(4)),
        )


def test_the_time_for_which_a_busy_machine_lets_a_search_wait_counts_little(
    transactions: Transactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def waiting(*arguments: Any) -> Page:
        threading.Event().wait(0.1)
        return find(*arguments)

    monkeypatch.setattr(resolve, "MOST_SECONDS", 0.2)
    monkeypatch.setattr(resolve, "find", waiting)
    creates = [entry("POST", "Patient", with_mrn("x", it), ifNoneExist=f"identifier={it}") for it in ("1", "2")]
    assert transactions.send(*creates) == transactions.send(*creates)
