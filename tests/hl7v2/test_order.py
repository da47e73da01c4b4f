"""Which of two messages about one resource is the newer one."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from fhir_adapter.hl7v2.datatypes import dtm
from fhir_adapter.hl7v2.order import ResourceEvent, compare, is_older, not_after

EARLIER, LATER = "20260115120000+0000", "20260115120100+0000"


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (EARLIER, LATER, -1),
        (LATER, EARLIER, 1),
        (EARLIER, EARLIER, 0),
        ("20260115120000", "20260115120001", -1),
        # one instant in two zones
        (EARLIER, "20260115130000+0100", 0),
        (LATER, "20260115130000+0100", 1),
        # within the coarser precision nobody can say
        ("202601151200+0000", "20260115120030+0000", 0),
        ("202601151159+0000", "20260115120030+0000", -1),
        ("20260115", "20260115235959", 0),
        ("20260115120000.5+0000", "20260115120000+0000", 0),
        ("20260115120000.1+0000", "20260115120000.2+0000", -1),
        # a time without an offset and one with
        ("20260115120000", "20260116120000+0000", 0),
        ("", EARLIER, 0),
        ("", "", 0),
    ],
)
def test_times_are_compared_within_their_precision(first: str, second: str, expected: int) -> None:
    assert compare(first, second) == expected
    assert compare(second, first) == -expected


def test_a_time_takes_the_offset_of_the_zone_that_is_known() -> None:
    assert dtm.placed("20260115120000", timezone(timedelta(hours=-5))) == "20260115120000-0500"
    assert dtm.placed("20260115120000+0100", UTC) == "20260115120000+0100"
    assert dtm.placed("20260115120000", None) == "20260115120000"
    assert dtm.placed("20261315", UTC) == dtm.placed("noon", UTC) == dtm.placed("", UTC) == ""


def test_no_event_counts_as_later_than_now() -> None:
    now = datetime(2026, 1, 15, 12, 0, 30, tzinfo=UTC)
    assert not_after("20360115120000+0000", now) == "20260115120030.000000+0000"
    assert not_after(EARLIER, now) == EARLIER
    assert not_after("20360115120000", now) == ""
    assert not_after("20260115130000", now) == "20260115130000"
    assert not_after("20360115", None) == "20360115"


def event(status: str, sent: str = "", changed: str = "", observed: str = "") -> ResourceEvent:
    return ResourceEvent(
        type="Observation", id="x", source="stated", status=status, observed=observed, changed=changed, sent=sent
    )


@pytest.mark.parametrize(
    ("stored", "new", "older"),
    [
        # the time of the event decides
        (event("corrected", LATER), event("final", EARLIER), True),
        (event("corrected", EARLIER), event("final", LATER), True),  # only a correction changes a corrected result
        (event("final", EARLIER), event("corrected", LATER), False),
        (event("final", LATER), event("final", EARLIER), True),
        (event("entered-in-error", LATER), event("final", EARLIER), True),
        (event("cancelled", EARLIER), event("corrected", LATER), False),
        # OBR-22 before MSH-7
        (event("final", EARLIER, LATER), event("final", LATER, EARLIER), True),
        (event("final", LATER, EARLIER), event("final", EARLIER, LATER), False),
        # an original that is sent again: the same OBR-22, a new MSH-7
        (event("corrected", EARLIER, EARLIER), event("final", LATER, EARLIER), True),
        (event("final", LATER, EARLIER), event("corrected", EARLIER, EARLIER), False),
        (event("cancelled", EARLIER, EARLIER), event("corrected", LATER, EARLIER), False),
        # only one of them has OBR-22
        (event("final", LATER, EARLIER), event("final", EARLIER), True),
        # a preliminary result never replaces a final one of the same specimen
        (event("final", EARLIER), event("preliminary", LATER), True),
        (event("corrected", EARLIER), event("registered", LATER), True),
        (event("final", EARLIER), event("partial", LATER), True),
        (event("preliminary", EARLIER), event("registered", LATER), False),
        (event("final", EARLIER, observed=EARLIER), event("preliminary", LATER, observed=LATER), False),
        # at the same time the later status counts, and among equals the later arrival
        (event("corrected", EARLIER), event("final", EARLIER), True),
        (event("final", EARLIER), event("corrected", EARLIER), False),
        (event("final", EARLIER), event("final", EARLIER), False),
        (event("corrected"), event("final"), True),
        (event("final"), event("final"), False),
        # nothing is known of what is stored
        (None, event("preliminary", EARLIER), False),
    ],
)
def test_the_event_time_and_the_status_decide(stored: ResourceEvent | None, new: ResourceEvent, older: bool) -> None:
    assert is_older(new, stored) is older
