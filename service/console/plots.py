"""Drawings for the console: a value on its scale, classes as bars, values over time.

They are inline SVG without script or style of its own. Colours come from the console's style sheet by class; the same
information is also written as text, so that nothing depends on colour alone (WCAG 2.2, success criterion 1.4.1).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from markupsafe import Markup

_LEFT: Final = 24
_WIDTH: Final = 592
_TOP: Final = 34
_BAR: Final = 26
_HEIGHT: Final = 104
_ROW: Final = 26
_SHARE_LEFT: Final = 200
_SHARE_WIDTH: Final = 360
_AXIS: Final = 80
_COURSE: Final = 76


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One band of a scale."""

    name: str
    #: Its end; it starts at the end of the segment before it.
    end: float
    #: Severity, 0 (none) to 3; selects the colour.
    gravity: int


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The range of a value and its bands."""

    low: float
    high: float
    #: From low to high; the last one ends at ``high``.
    segments: tuple[Segment, ...]
    #: (position, label) of the marks below the bar.
    ticks: tuple[tuple[float, str], ...]
    #: One sentence about what the drawing cannot show.
    note: str = ""


def on_scale(scale: Scale, value: float, text: str) -> Markup:
    """Draw a value on its scale.

    Parameters
    ----------
    scale
        The bands.
    value
        Position of the marker; a value outside the scale is drawn at the nearer end.
    text
        The value as text, written beside the marker.

    Returns
    -------
    Markup
        One ``svg`` element with a title; every text in it is escaped.
    """
    bands = ", ".join(segment.name for segment in scale.segments)
    title = Markup("<title>{} on a scale from {:g} to {:g}: {}</title>").format(text, scale.low, scale.high, bands)
    parts = [*_segments(scale), *_ticks(scale), _marker(scale, value, text)]
    opening = Markup('<svg class="scale" viewBox="0 0 {} {}" role="img">').format(2 * _LEFT + _WIDTH, _HEIGHT)
    return opening + title + Markup("").join(parts) + Markup("</svg>")


def bars(shares: Sequence[tuple[str, float]], said: str) -> Markup:
    """Draw the probability of each class as a bar.

    Parameters
    ----------
    shares
        (class, probability), in the order in which they are drawn.
    said
        What is shown, for the drawing's title.
    """
    parts = []
    for place, (name, share) in enumerate(shares):
        top = _ROW * place
        width = _SHARE_WIDTH * min(max(share, 0.0), 1.0)
        parts.append(
            Markup(
                '<text text-anchor="end" x="{0}" y="{1}">{2}</text>'
                '<rect class="share" x="{3}" y="{4}" width="{5:.1f}" height="{6}"/>'
                '<text text-anchor="start" x="{7:.1f}" y="{1}">{8:.1%}</text>'
            ).format(
                _SHARE_LEFT - 8, top + 17, name, _SHARE_LEFT, top + 3, width, _ROW - 6, _SHARE_LEFT + width + 6, share
            )
        )
    return _drawing(f"{said}: each class with its probability", _ROW * max(1, len(shares)), parts)


def course(times: Sequence[str], values: Sequence[float], said: str) -> Markup:
    """Draw values over time as a line, with the least and the greatest value and the first and last time.

    Parameters
    ----------
    times
        In ISO 8601, ascending.
    values
        One for each time.
    said
        What is shown, for the drawing's title.
    """
    moments = [datetime.fromisoformat(time).timestamp() for time in times]
    low, high = min(values), max(values)
    across = [_AXIS + (_WIDTH - _AXIS) * _share(moment, moments[0], moments[-1]) for moment in moments]
    points = [(x, _TOP + _COURSE * (1 - _share(value, low, high))) for x, value in zip(across, values, strict=True)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts = [Markup('<polyline points="{}"/>').format(line)]
    parts += [Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3"/>').format(x, y) for x, y in points]
    scale = ((_TOP, high), (_TOP + _COURSE, low)) if high > low else ((_TOP + _COURSE, low),)
    parts += [
        Markup('<text class="tick" text-anchor="end" x="{}" y="{}">{:g}</text>').format(_AXIS - 10, y + 4, value)
        for y, value in scale
    ]
    ends = ((across[0], "start", times[0]), (across[-1], "end", times[-1])) if len(times) > 1 else ()
    parts += [
        Markup('<text class="tick" text-anchor="{}" x="{:.1f}" y="{}">{}</text>').format(anchor, x, _HEIGHT + 26, time)
        for x, anchor, time in ends
    ]
    return _drawing(f"{said} over time, from {low:g} to {high:g}", _HEIGHT + 32, parts)


def _share(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low) if high > low else 0.0


def _drawing(title: str, height: int, parts: Iterable[Markup]) -> Markup:
    opening = Markup('<svg class="scale" viewBox="0 0 {} {}" role="img">').format(2 * _LEFT + _WIDTH, height)
    return opening + Markup("<title>{}</title>").format(title) + Markup("").join(parts) + Markup("</svg>")


def _x(scale: Scale, position: float) -> float:
    inside = min(max(position, scale.low), scale.high)
    return _LEFT + _WIDTH * (inside - scale.low) / (scale.high - scale.low)


def _segments(scale: Scale) -> Iterator[Markup]:
    start = scale.low
    for segment in scale.segments:
        left, right = _x(scale, start), _x(scale, segment.end)
        yield Markup('<rect class="gravity-{}" x="{:.1f}" y="{}" width="{:.1f}" height="{}"/>').format(
            segment.gravity, left, _TOP, right - left, _BAR
        )
        yield Markup('<text class="band" x="{:.1f}" y="{}">{}</text>').format(
            (left + right) / 2, _TOP + _BAR / 2 + 4, segment.name
        )
        start = segment.end


def _ticks(scale: Scale) -> Iterator[Markup]:
    bottom = _TOP + _BAR
    for position, label in scale.ticks:
        across = _x(scale, position)
        yield Markup('<line class="tick" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(
            across, bottom, bottom + 6
        )
        yield Markup('<text class="tick" x="{:.1f}" y="{}">{}</text>').format(across, bottom + 22, label)


def _marker(scale: Scale, value: float, text: str) -> Markup:
    across = _x(scale, value)
    triangle = f"{across - 8:.1f},{_TOP - 12} {across + 8:.1f},{_TOP - 12} {across:.1f},{_TOP}"
    anchor = "start" if across < _LEFT + 60 else "end" if across > _LEFT + _WIDTH - 60 else "middle"
    label_at = across - 8 if anchor == "start" else across + 8 if anchor == "end" else across
    return Markup(
        '<polygon class="marker" points="{0}"/>'
        '<line class="marker" x1="{1:.1f}" x2="{1:.1f}" y1="{2}" y2="{3}"/>'
        '<text class="marker" text-anchor="{4}" x="{5:.1f}" y="{6}">{7}</text>'
    ).format(triangle, across, _TOP, _TOP + _BAR, anchor, label_at, _TOP - 17, text)
