"""What follows from a failed delivery: hold its patient, pause the destination, or park it. Pure decisions.

A failure holds the patient whom it concerns. It pauses the destination when the peer says that it concerns everything
(wrong credentials, no connection, ``Retry-After``), or when deliveries of :data:`PATIENTS_THAT_PAUSE` patients fail one
after the other and none is accepted between them. Such a failure does not count towards parking: the delivery is not
at fault. A receiver that refuses one kind of object, such as a PACS that takes no pictures, may take the others: such a
delivery is parked and pauses nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from kernel.errors import Category, ObjectRefused, PeerProblem, Problem
from kernel.jobs import FAULTS_BEFORE_PARKING
from kernel.retry_after import retry_after

PATIENTS_THAT_PAUSE: Final = 3
"""So many patients whose deliveries fail, with none accepted between them, are taken for a failure of the peer."""

PROBE_PAUSE: Final = timedelta(seconds=30)
"""The longest pause of a destination that is only supposed to be at fault: a patient may wait for it wrongly."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How often a delivery is tried, and the pauses between: the first doubles until the longest."""

    tries: int
    first: timedelta = timedelta(seconds=1)
    longest: timedelta = timedelta(seconds=1)

    def pause(self, failures: int) -> timedelta:
        """Return the pause after so many failures, at least 1."""
        doubled: timedelta = self.first * (1 << min(failures - 1, 20))
        return min(doubled, self.longest)


AT_ONCE: Final = Schedule(tries=1)
SOON: Final = Schedule(tries=20, first=timedelta(seconds=1), longest=timedelta(minutes=10))
"""Failures that may end by themselves; the last try is after 1 hour 47 minutes."""
LATER: Final = Schedule(tries=24, first=timedelta(minutes=1), longest=timedelta(minutes=15))
"""What a person must correct at the peer, such as registering the patient; the last try is after 5 hours."""
AWAY: Final = Schedule(tries=1, first=timedelta(seconds=1), longest=timedelta(seconds=60))
"""A destination that cannot be reached; it is tried without an end."""

SCHEDULES: Final[Mapping[Category, Schedule]] = MappingProxyType(
    {
        Category.INCORRECT: AT_ONCE,
        Category.UNSUPPORTED: AT_ONCE,
        Category.NOT_FOUND: LATER,
        Category.CONFLICT: LATER,
        Category.FORBIDDEN: LATER,
        Category.BUSY: SOON,
        Category.UNAVAILABLE: SOON,
        Category.INTERRUPTED: SOON,
        Category.FAULT: Schedule(
            tries=FAULTS_BEFORE_PARKING, first=timedelta(seconds=1), longest=timedelta(seconds=60)
        ),
    }
)
"""Category of a failed delivery -> how often it is tried before it is parked."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What is known when a delivery has failed."""

    problem: Problem
    now: datetime
    #: Earlier failures of this delivery that count.
    refusals: int
    #: Patients, this one included, for whom something failed since the destination last accepted anything.
    failing_patients: int
    #: Pauses of the destination since then.
    pauses: int
    #: Other patients for whom the destination said the same since then.
    refused_patients: int = 0
    #: So many patients, this one included, are taken for the peer's configuration; 0: none.
    refusals_in_a_row: int = 0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What to do about it."""

    park: bool = False
    #: How long this patient's deliveries are held.
    hold: timedelta = timedelta()
    #: How long the destination is paused; not at all when None.
    pause: timedelta | None = None
    #: Whether the attempt counts towards parking.
    counts: bool = True
    #: Whether the destination refuses everybody, so that what was parked for the same refusal waits again.
    refuses_everybody: bool = False


def judge(attempt: Attempt) -> Verdict:
    """Decide what follows from a failed attempt."""
    problem = attempt.problem
    schedule = SCHEDULES[problem.category]
    asked = retry_after(problem.retry_after, attempt.now) if isinstance(problem, PeerProblem) else None
    if isinstance(problem, PeerProblem) and problem.whole:
        unreachable = AWAY if schedule is SOON else schedule
        pause = asked or unreachable.pause(attempt.pauses + 1)
        return Verdict(hold=pause, pause=pause, counts=False)
    failures = attempt.refusals + 1
    probe = min(SOON.pause(attempt.pauses + 1), PROBE_PAUSE)
    if schedule is AT_ONCE:
        if _refuses_everybody(attempt):
            return Verdict(hold=LATER.pause(1), pause=probe, counts=False, refuses_everybody=True)
        return Verdict(park=True)
    hold = asked or schedule.pause(failures)
    if attempt.failing_patients >= PATIENTS_THAT_PAUSE:
        return Verdict(hold=hold, pause=probe, counts=False)
    return Verdict(park=failures >= schedule.tries, hold=hold)


def _refuses_everybody(attempt: Attempt) -> bool:
    """Return whether a refusal by the peer of everything, and not a problem of our own, is that of enough patients."""
    wanted = attempt.refusals_in_a_row
    of_everything = isinstance(attempt.problem, PeerProblem) and not isinstance(attempt.problem, ObjectRefused)
    return of_everything and 0 < wanted <= attempt.refused_patients + 1
