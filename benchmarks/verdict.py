"""The checker: compares what was acknowledged with what was found, and returns what was lost or duplicated.

It is a pure function; ``tests/crash`` shows with altered evidence that it finds each fault.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from benchmarks.items import Interface, Item

Found = Mapping[str, tuple[str, ...]]
"""Patient's number -> identifiers of the results that a stand-in stores for the patient."""


STORE: Final = "the store"
EHR: Final = "the EHR"
ENGINE: Final = "the engine"
PACS: Final = "the PACS"
"""Places where an item, or its result, must be."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was found when no work was left."""

    stored: Mapping[str, int]
    """Patient's number -> Observations or instances in the server's store."""
    ehr: Found
    engine: Found
    pacs: Found
    on_the_way: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Place -> patients' numbers and items' keys for which the server's database still holds work for that place."""
    parked: int = 0
    """Jobs and deliveries that are parked."""
    unfinished: int = 0
    """Jobs and deliveries that were not finished in time."""
    audit_is_whole: bool = True


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The result of the comparison."""

    lost: tuple[str, ...] = ()
    """Items that were acknowledged, but are neither at their place nor pending in the server's database."""
    undelivered: tuple[str, ...] = ()
    """Items that are not yet at their place, but pending or parked in the server's database."""
    duplicated: tuple[str, ...] = ()
    faults: tuple[str, ...] = field(default=())
    """Any other fault: parked work, a broken audit log, results for unknown patients."""

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        return not (self.lost or self.undelivered or self.duplicated or self.faults)


def check(acknowledged: Iterable[Item], evidence: Evidence) -> Verdict:
    """Compare the evidence with what was acknowledged.

    Parameters
    ----------
    acknowledged
        Every item whose sender has a receipt.
    evidence
        What was found at all places.

    Returns
    -------
    Verdict
        One line for each missing or additional result, with interface, key and place.
    """
    items = list(acknowledged)
    lost, undelivered, duplicated = [], [], []
    for item in items:
        for place, count, wanted in _counts(item, evidence):
            place_text = f"{item.interface} {item.key}: {count} of {wanted} in {place}"
            if count < wanted:
                held = evidence.on_the_way.get(place, frozenset())
                (undelivered if {item.mrn, item.key} & held else lost).append(place_text)
            elif count > wanted:
                duplicated.append(place_text)
        if _has_two_results(item, evidence):
            duplicated.append(f"{item.interface} {item.key}: the stand-ins have different results")
    patients = {item.mrn for item in items}
    return Verdict(
        lost=tuple(lost),
        undelivered=tuple(undelivered),
        duplicated=tuple(duplicated),
        faults=tuple(_faults(patients, evidence)),
    )


def _counts(item: Item, evidence: Evidence) -> Iterable[tuple[str, int, int]]:
    yield STORE, evidence.stored.get(item.mrn, 0), item.parts
    yield EHR, len(evidence.ehr.get(item.mrn, ())), 1
    yield ENGINE, len(evidence.engine.get(item.mrn, ())), 1
    yield PACS, len(evidence.pacs.get(item.mrn, ())), int(item.interface is Interface.DICOM)


def _has_two_results(item: Item, evidence: Evidence) -> bool:
    """EHR and engine name a result by the same hash; one of each with different hashes are two results."""
    found = {*evidence.ehr.get(item.mrn, ()), *evidence.engine.get(item.mrn, ())}
    return len(found) > 1


def _faults(patients: set[str], evidence: Evidence) -> Iterable[str]:
    for place, found in (("EHR", evidence.ehr), ("engine", evidence.engine), ("PACS", evidence.pacs)):
        unknown = found.keys() - patients
        if unknown:
            yield f"the {place} has results of {len(unknown)} patients for whom nothing was acknowledged"
    if evidence.parked:
        yield f"{evidence.parked} jobs or deliveries are parked"
    if evidence.unfinished:
        yield f"{evidence.unfinished} jobs or deliveries are not finished"
    if not evidence.audit_is_whole:
        yield "the audit log does not verify"
