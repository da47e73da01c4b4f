"""How a sender identified an Observation, and which stored one it means: an engine writes one value in several ways.

Two origins of one patient mean the same value when a code agrees, their times overlap, and OBX-4 is equal or absent on
one side. The order number decides between them: equal numbers mean one value, different ones never do. Without a number
on both sides the sender decides. A coding system or an authority that only one side states, a text and OBR-1 are no
difference.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final, NamedTuple, TypeAlias

WIDEST_S: Final = 60.0
"""A wider time is no instant, and has no origin."""


class Origin(NamedTuple):
    """How the sender identified an Observation; a tuple, because a message has many."""

    #: Id of the Observation.
    id: str
    #: Id of its Patient when it was received.
    patient: str
    #: MSH-3 and MSH-4.
    sender: str
    #: OBR-2 and OBR-3 as they are written; empty where there is none.
    placer: str
    filler: str
    #: OBX-4.
    sub_id: str
    #: The codings of OBX-3, each as its system, a bar and its code.
    codes: frozenset[str]
    #: The span of its time, in seconds since 1970: a time to the minute is a minute wide.
    start: float
    end: float

    @property
    def width(self) -> float:
        """How precise its time is; less is more precise."""
        return self.end - self.start


Origins: TypeAlias = Callable[[str, float, float], Sequence[Origin]]
"""(id of a Patient, from, until) to what is stored of the patient in that time."""


def no_origins(_patient: str, _start: float, _end: float) -> Sequence[Origin]:
    """Return nothing: the :data:`Origins` of an empty store."""
    return ()


class StoredOrigins:
    """What is stored of one patient, by code and time: a long message does not look at all of it for each value.

    Parameters
    ----------
    stored
        The origins, oldest first.
    """

    def __init__(self, stored: Sequence[Origin]) -> None:
        self.by_id = {one.id: one for one in stored}
        self._by_code: dict[str, list[Origin]] = {}
        for one in stored:
            for code in {_code(it) for it in one.codes}:
                self._by_code.setdefault(code, []).append(one)

    def near(self, new: Origin) -> list[Origin]:
        """Return what has a code of a value, the same OBX-4 or none, and a time that overlaps the value's."""
        found: dict[str, Origin] = {}
        for code in sorted(new.codes):
            timed = self._by_code.get(_code(code), ())
            first = bisect_left(timed, new.start - WIDEST_S, key=lambda one: one.start)
            for one in islice(timed, first, None):
                if one.start >= new.end:
                    break
                if new.start < one.end and _either(one.sub_id, new.sub_id) and _of_code(code, one.codes):
                    found[one.id] = one
        return list(found.values())


def fitting(new: Origin, near: Sequence[Origin], *, of_any_sender: bool) -> list[Origin]:
    """Return the stored Observations that a value may mean; it means one only if that is the only one.

    Parameters
    ----------
    new
        How the value is identified.
    near
        From :meth:`StoredOrigins.near`.
    of_any_sender
        Whether the same order number of another sender counts where the sender itself has none: it does for a change.
    """
    same = [one for one in near if _same_number(new, one) is True]
    of_sender = [one for one in same if one.sender == new.sender]
    without = [one for one in near if one.sender == new.sender and _same_number(new, one) is None]
    found = of_sender or (same if of_any_sender else []) or without
    exact = [one for one in found if (one.start, one.end, one.sub_id) == (new.start, new.end, new.sub_id)]
    return exact or found


def _code(coding: str) -> str:
    return coding.rpartition("|")[2]


def _of_code(coding: str, codes: frozenset[str]) -> bool:
    system, _, code = coding.rpartition("|")
    return any(_either(system, it.rpartition("|")[0]) for it in codes if _code(it) == code)


def _either(one: str, other: str) -> bool:
    """Return whether two texts are equal, or only one side states any."""
    return one == other or not (one and other)


def _same_number(one: Origin, other: Origin) -> bool | None:
    """Return whether two order numbers are one; None where no number of the same kind is on both sides."""
    for number, stated in ((one.filler, other.filler), (one.placer, other.placer)):
        if number and stated:
            (value, _, authority), (known, _, known_authority) = number.partition("^"), stated.partition("^")
            return value == known and _either(authority, known_authority)
    return None
