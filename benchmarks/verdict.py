"""The checker: from what senders were promised and what was found everywhere, to what was lost or came twice.

Pure, so that it can be shown to fail: ``tests/crash`` hands it tampered evidence.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from benchmarks.items import Interface, Item

Found = Mapping[str, tuple[str, ...]]
"""Patient's number -> identifiers of the results that a stand-in keeps for them."""


STORE: Final = "the store"
EHR: Final = "the EHR"
ENGINE: Final = "the engine"
PACS: Final = "the PACS"
"""Places where an item, or its result, must be."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was found when everything had come to rest."""

    stored: Mapping[str, int]
    """Patient's number -> Observations or instances in the server's store."""
    ehr: Found
    engine: Found
    pacs: Found
    on_the_way: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Place -> patients' numbers and items' keys for which the server's database still holds work for that place."""
    parked: int = 0
    """Jobs and deliveries that wait for a person."""
    unfinished: int = 0
    """Jobs and deliveries that had not come to rest in time."""
    audit_is_whole: bool = True


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the evidence says."""

    lost: tuple[str, ...] = ()
    """Acknowledged, and neither where it belongs nor anywhere in the server's database."""
    undelivered: tuple[str, ...] = ()
    """Not yet where it belongs, but pending or parked in the server's database."""
    duplicated: tuple[str, ...] = ()
    faults: tuple[str, ...] = field(default=())
    """Anything else that must not be: parked work, a broken audit log, results of nobody's items."""

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.undelivered or self.duplicated or self.faults)


def check(acknowledged: Iterable[Item], evidence: Evidence) -> Verdict:
    """Hold the evidence against what was acknowledged.

    Parameters
    ----------
    acknowledged
        Every item whose sender has a receipt.
    evidence
        What was found.

    Returns
    -------
    Verdict
        One line for each thing that is missing or too many, naming interface, key and place.
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
        if _tells_two_stories(item, evidence):
            duplicated.append(f"{item.interface} {item.key}: the stand-ins have different results")
    known = {item.mrn for item in items}
    return Verdict(
        lost=tuple(lost),
        undelivered=tuple(undelivered),
        duplicated=tuple(duplicated),
        faults=tuple(_faults(known, evidence)),
    )


def _counts(item: Item, evidence: Evidence) -> Iterable[tuple[str, int, int]]:
    yield STORE, evidence.stored.get(item.mrn, 0), item.parts
    yield EHR, len(evidence.ehr.get(item.mrn, ())), 1
    yield ENGINE, len(evidence.engine.get(item.mrn, ())), 1
    yield PACS, len(evidence.pacs.get(item.mrn, ())), int(item.interface is Interface.DICOM)


def _tells_two_stories(item: Item, evidence: Evidence) -> bool:
    """EHR and engine name a result by the same hash; one of each with different hashes are two results."""
    found = {*evidence.ehr.get(item.mrn, ()), *evidence.engine.get(item.mrn, ())}
    return len(found) > 1


def _faults(known: set[str], evidence: Evidence) -> Iterable[str]:
    for place, found in (("EHR", evidence.ehr), ("engine", evidence.engine), ("PACS", evidence.pacs)):
        strangers = found.keys() - known
        if strangers:
            yield f"the {place} has results of {len(strangers)} patients that nobody was acknowledged for"
    if evidence.parked:
        yield f"{evidence.parked} jobs or deliveries are parked"
    if evidence.unfinished:
        yield f"{evidence.unfinished} jobs or deliveries did not come to rest"
    if not evidence.audit_is_whole:
        yield "the audit log does not verify"
