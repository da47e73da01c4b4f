"""The window of a feature: from when, and to before when, its values were measured."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple, TypeAlias

from inference.contract import Admission
from inference.features.records import FeatureSpec
from inference.features.values import Candidate, Gap, age_order

NO_ADMISSION: Final = Gap(kind="missing", detail="no admission is known")


class Span(NamedTuple):
    """``since`` is in the window and ``until`` is not; None is without limit."""

    since: datetime | None
    until: datetime | None

    def holds(self, instant: datetime) -> bool:
        """Return whether an instant lies in it."""
        return (self.since is None or instant >= self.since) and (self.until is None or instant < self.until)


Window: TypeAlias = Callable[[datetime, Admission | None], Span | Gap]


def window_of(spec: FeatureSpec) -> Window:
    """Return what gives the window of a feature at a moment, or why there is none.

    Parameters
    ----------
    spec
        The feature; its window may begin at the admission, and end before the moment.
    """
    reach = None if spec.hours is None else timedelta(hours=float(spec.hours))
    offset = timedelta(hours=float(spec.offset))
    first = None if spec.first_hours is None else timedelta(hours=float(spec.first_hours))

    def fixed(at: datetime, _admission: Admission | None) -> Span | Gap:
        return Span(None if reach is None else at - reach, at - offset if offset else None)

    def anchored(at: datetime, admission: Admission | None) -> Span | Gap:
        if admission is None:
            return NO_ADMISSION
        ends = [end for end in (at - offset if offset else None, admission.start + first if first else None) if end]
        since = admission.start if reach is None else max(admission.start, at - reach)
        return Span(since, min(ends, default=None))

    return anchored if spec.since_admission else fixed


def inside(found: Sequence[Candidate], span: Span) -> Sequence[Candidate]:
    """Return what was measured in a window.

    Parameters
    ----------
    found
        Everything that is known.
    span
        The window.
    """
    since, until = span
    if until is None:
        return found if since is None else [one for one in found if one[0].instant >= since]
    return [one for one in found if span.holds(one[0].instant)]


def why_outside(found: Sequence[Candidate], span: Span) -> Gap:
    """Return why nothing is in a window: there is no value, or the newest one was measured before it.

    Parameters
    ----------
    found
        Everything that is known.
    span
        The window; nothing of ``found`` lies in it.
    """
    since = span.since
    before = [one for one in found if since is not None and one[0].instant < since]
    if not before:
        return Gap(kind="missing")
    return Gap(kind="old", source=max(before, key=age_order)[0].fact.source)
