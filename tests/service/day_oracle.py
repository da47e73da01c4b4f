"""What the right newest statement is, written apart from the product: from the Royal College of Physicians' chart.

It imports nothing of the product. It knows what was measured and which messages have arrived by a moment, and nothing
of messages, resources or jobs.
"""

from collections.abc import Iterable
from dataclasses import dataclass

PARAMETERS = ("respirations", "spo2", "oxygen_flow", "systolic", "pulse", "consciousness", "temperature")
TITLES = {
    "respirations": "respiratory rate",
    "spo2": "oxygen saturation",
    "oxygen_flow": "supplemental oxygen or room air",
    "systolic": "systolic blood pressure",
    "pulse": "pulse",
    "consciousness": "level of consciousness",
    "temperature": "temperature",
}
FURTHEST_APART = 4 * 60
"""Minutes between the oldest and the newest value of one score."""
OLDEST = 12 * 60
"""Minutes after which a value no longer counts."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What one message says of one measurement."""

    patient: str
    parameter: str
    #: Minute of the day at which it was measured, by a clock that is right.
    measured: float
    #: A corrected value has a greater number than the one that it corrects, a final one than a preliminary one.
    version: int
    #: Minute at which the message arrived.
    arrived: float
    #: As sent; None for one that is no number, such as ``<85``.
    value: str | None


def statement(known: Iterable[Known], now: float) -> str | None:
    """Return the score of one patient, or the reason for having none; None when nothing has arrived yet."""
    newest: dict[str, Known] = {}
    for one in known:
        if one.arrived > now:
            continue
        before = newest.get(one.parameter)
        if before is None or (one.measured, one.version) > (before.measured, before.version):
            newest[one.parameter] = one
    if not newest:
        return None
    if reason := _reason(newest, now):
        return f"not available: {reason}"
    return str(sum(_points(parameter, newest[parameter].value or "") for parameter in PARAMETERS))


def _reason(newest: dict[str, Known], now: float) -> str:
    groups = {
        "missing": [name for name in PARAMETERS if name not in newest],
        "too old:": [name for name in PARAMETERS if name in newest and newest[name].measured < now - OLDEST],
    }
    groups["unreadable"] = [
        name for name in PARAMETERS if name in newest and newest[name].value is None and name not in groups["too old:"]
    ]
    named = {word: names for word, names in groups.items() if names}
    if named:
        return "; ".join(f"{word} {', '.join(TITLES[name] for name in names)}" for word, names in named.items())
    times = [one.measured for one in newest.values()]
    return "measured too far apart" if max(times) - min(times) > FURTHEST_APART else ""


def _points(parameter: str, text: str) -> int:
    """Return the points of one parameter (RCP 2017, chart 1, SpO2 scale 1)."""
    if parameter == "consciousness":
        return 0 if text == "Alert" else 3
    value = float(text)
    if parameter == "oxygen_flow":
        return 2 if value > 0 else 0
    for least, points in _CHART[parameter]:
        if value >= least:
            return points
    raise AssertionError(parameter)


_LOWEST = float("-inf")
_CHART: dict[str, tuple[tuple[float, int], ...]] = {
    "respirations": ((25, 3), (21, 2), (12, 0), (9, 1), (_LOWEST, 3)),
    "spo2": ((96, 0), (94, 1), (92, 2), (_LOWEST, 3)),
    "systolic": ((220, 3), (111, 0), (101, 1), (91, 2), (_LOWEST, 3)),
    "pulse": ((131, 3), (111, 2), (91, 1), (51, 0), (41, 1), (_LOWEST, 3)),
    "temperature": ((39.1, 2), (38.1, 1), (36.1, 0), (35.1, 1), (_LOWEST, 3)),
}
"""Parameter -> (least value, points), from high to low."""
