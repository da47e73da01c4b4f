"""The instant of a dateTime is the same by the short way and by the way that reads every form."""

from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_adapter.store.times import point, span

ZONES = st.one_of(
    st.just("Z"), st.builds("{}{:02}:{:02}".format, st.sampled_from("+-"), st.integers(0, 23), st.integers(0, 59))
)
FRACTIONS = st.one_of(st.just(""), st.text("0123456789", min_size=1, max_size=9).map(lambda digits: f".{digits}"))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.datetimes(), ZONES, FRACTIONS)
def test_every_date_with_a_time_and_a_zone_is_one_instant(moment: datetime, zone: str, fraction: str) -> None:
    text = f"{moment:%H:%M:%S}{fraction}{zone}"
    text = f"{moment.year:04}-{moment:%m-%d}T{text}"
    assert point(text) == span(text)[0]


@pytest.mark.parametrize(
    "text",
    [
        "2016-12-31T23:59:60Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-12:00",
        "2026-01-15T10:05:00.1234567Z",
        "2026-01-15T10:05Z",
    ],
)
def test_the_ends_of_the_calendar_and_leap_seconds_are_read_as_before(text: str) -> None:
    assert point(text) == span(text)[0]


@pytest.mark.parametrize("text", [None, "", "2026-01-15", "2026-01-15T10:05:00", "2026"])
def test_without_a_zone_there_is_no_instant(text: str | None) -> None:
    assert point(text) is None


def test_an_instant_is_in_utc() -> None:
    read = point("2026-01-15T10:05:00+01:00")
    assert read is not None
    assert (read.tzinfo, read.hour) == (UTC, 9)
