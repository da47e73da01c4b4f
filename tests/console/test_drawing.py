"""Plots, scales and cards: their content, and the escaping of their texts."""

import re
from decimal import Decimal
from xml.etree import ElementTree

import pytest

from inference.folder import bundled_folder, open_folder
from inference.manifest import Band, OutputSpec
from service.console.cards import as_html
from service.console.plots import Scale, Segment, bars, course, on_scale
from service.console.scales import scale_of

SCALE = Scale(
    low=0,
    high=10,
    segments=(Segment(name="low", end=4, gravity=0), Segment(name="high", end=10, gravity=3)),
    ticks=((4, "4"),),
)


def marker_at(drawing: str) -> float:
    (across,) = re.findall(r'<line class="marker" x1="([\d.]+)"', drawing)
    return float(across)


def probability(threshold: str) -> OutputSpec:
    bands = (Band(name="negative", at_least=Decimal(0)), Band(name="positive", at_least=Decimal(threshold)))
    return OutputSpec(
        name="p", system="s", code="c", display="P", kind="probability", unit=None, future=False, bands=bands
    )


def test_a_drawing_is_well_formed_and_has_a_text_alternative() -> None:
    drawing = ElementTree.fromstring(on_scale(SCALE, 3, "3 low"))
    assert drawing.findtext("title") == "3 low on a scale from 0 to 10: low, high"


def test_the_marker_is_drawn_at_the_value() -> None:
    left, middle, right = (marker_at(on_scale(SCALE, value, "")) for value in (0, 5, 10))
    assert middle == pytest.approx((left + right) / 2)
    assert left < right


@pytest.mark.parametrize(("beyond", "end"), [(-5, 0), (15, 10)])
def test_a_value_outside_the_scale_is_drawn_at_its_end(beyond: float, end: float) -> None:
    assert marker_at(on_scale(SCALE, beyond, "")) == marker_at(on_scale(SCALE, end, ""))


def test_text_in_a_drawing_is_escaped() -> None:
    drawing = on_scale(SCALE, 3, "</text><script>")
    assert "<script>" not in drawing
    ElementTree.fromstring(drawing)


@pytest.mark.parametrize(
    ("total", "band"), [(0, "low"), (4, "low"), (5, "medium"), (6, "medium"), (7, "high"), (20, "high")]
)
def test_a_news2_total_is_drawn_in_its_band(total: int, band: str) -> None:
    (output,) = open_folder(bundled_folder("news2")).manifest.outputs
    scale = scale_of(output)
    assert scale is not None
    assert next(segment.name for segment in scale.segments if total <= segment.end) == band


def test_a_probability_shows_its_threshold() -> None:
    scale = scale_of(probability("0.3242"))
    assert scale is not None
    assert [(segment.name, segment.end, segment.gravity) for segment in scale.segments] == [
        ("negative", 0.3242, 0),
        ("positive", 1.0, 3),
    ]
    assert scale.ticks == ((0.0, "0"), (0.3242, "threshold 0.3242"), (1, "1"))


def test_the_scale_of_news2_follows_from_the_models_own_rule() -> None:
    (output,) = open_folder(bundled_folder("news2")).manifest.outputs
    scale = scale_of(output)
    assert scale is not None
    assert [(segment.name, segment.end) for segment in scale.segments] == [
        ("low", 4.5),
        ("medium", 6.5),
        ("high", 20.5),
    ]
    assert [place for place, _ in scale.ticks] == [0, 5, 7, 20]


def test_the_bars_of_a_class_set_are_as_long_as_its_probabilities() -> None:
    drawing = bars([("cat", 0.25), ("<dog>", 0.75)], "Animal")
    widths = [float(width) for width in re.findall(r'class="share"[^>]* width="([0-9.]+)"', drawing)]
    assert widths[1] == pytest.approx(3 * widths[0])
    texts = [text.text for text in ElementTree.fromstring(drawing).iter("text")]
    assert texts == ["cat", "25.0%", "<dog>", "75.0%"]


def test_a_time_series_is_a_line_whose_points_lie_in_time() -> None:
    times = [f"2026-01-15T{hour:02}:00:00+00:00" for hour in (0, 1, 4)]
    drawing = course(times, [1.0, 3.0, 2.0], "Risk")
    assert ElementTree.fromstring(drawing).findtext("title") == "Risk over time, from 1 to 3"
    points = re.search(r'points="([^"]+)"', drawing)
    assert points is not None
    places = [tuple(map(float, point.split(","))) for point in points[1].split()]
    assert places[2][0] - places[0][0] == pytest.approx(4 * (places[1][0] - places[0][0]), abs=0.5)
    assert places[1][1] < places[2][1] < places[0][1]


def test_a_time_series_of_one_value_can_be_drawn() -> None:
    ElementTree.fromstring(course(["2026-01-15T00:00:00+00:00"], [1.0], "Risk"))


def test_a_card_becomes_headings_lists_tables_and_emphasis() -> None:
    card = "# Title\n\nA **bold** *word* and `code`\nwrapped.\n\n- one\n- two\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    assert re.sub(r"\n+", "", as_html(card)) == (
        "<h2>Title</h2>"
        "<p>A <strong>bold</strong> <em>word</em> and <code>code</code> wrapped.</p>"
        "<ul><li>one</li><li>two</li></ul>"
        "<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table>"
    )


def test_markup_in_a_card_is_shown_as_text() -> None:
    assert as_html("<script>x</script> [a](javascript:x)") == "<p>&lt;script&gt;x&lt;/script&gt; [a](javascript:x)</p>"
