"""A resource is returned as it was sent: every decimal, every timestamp, every character."""

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_adapter.store import document
from kernel.errors import Category, Problem

AT = datetime(2026, 1, 15, 12, tzinfo=UTC)


def exactly(raw: bytes) -> Any:
    """Read JSON with each number as the characters it was written in."""
    return json.loads(raw, parse_float=lambda text: ("number", text), parse_int=lambda text: ("number", text))


def stored(raw: bytes) -> Any:
    stamped = document.stamp(document.parse(raw), resource_id="1", version=1, last_updated=AT)
    return exactly(stamped)


numbers = st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,2})?", fullmatch=True)
text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
scalars = st.one_of(numbers.map(lambda number: f"{number}"), text.map(json.dumps), st.sampled_from(["true", "false"]))


def _object(pairs: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{json.dumps(key)}:{value}" for key, value in dict(pairs).items()) + "}"


written = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map(lambda items: f"[{','.join(items)}]"),
        st.lists(st.tuples(text, inner), min_size=1, max_size=4).map(_object),
    ),
    max_leaves=20,
)


@given(written)
def test_any_json_is_stored_with_every_number_as_written(value: str) -> None:
    assert stored(f'{{"resourceType":"Basic","x":{value}}}'.encode())["x"] == exactly(value.encode())


@pytest.mark.parametrize(
    "number", ["1.10", "0.000", "-0", "-0.0", "1e3", "12345678901234567890", "0.12345678901234567890"]
)
def test_a_number_that_python_would_change_is_kept(number: str) -> None:
    assert stored(f'{{"resourceType":"Basic","x":{number}}}'.encode())["x"] == ("number", number)


def test_the_server_sets_id_and_version_and_nothing_else() -> None:
    raw = b'{"meta":{"tag":[{"code":"t"}],"versionId":"9","lastUpdated":"2001"},"id":"x","resourceType":"Basic"}'
    assert stored(raw) == {
        "resourceType": "Basic",
        "id": "1",
        "meta": {"tag": [{"code": "t"}], "versionId": "1", "lastUpdated": "2026-01-15T12:00:00.000000Z"},
    }


def test_a_dict_of_decimals_keeps_their_digits() -> None:
    made = document.of({"resourceType": "Basic", "x": Decimal("1.10"), "y": [Decimal("1E+2")]})
    assert document.encode(made.exact) == b'{"resourceType":"Basic","x":1.10,"y":[100]}'


def test_the_order_of_names_is_no_difference() -> None:
    assert document.same_content(b'{"a":1.10,"b":{"c":1,"d":2}}', b'{"b":{"d":2,"c":1},"a":1.10}')


def test_another_precision_is_other_content() -> None:
    assert not document.same_content(b'{"a":1.10}', b'{"a":1.11}')
    assert not document.same_content(b'{"a":1.10}', b'{"a":1.1}')


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b'"text"',
        b'{"a":1',
        b'{"a":1}{',
        b'{"a":NaN}',
        b'{"a":1e999}',
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\x00"}',
        b'{"a":"\\u0000"}',
        b'{"a":"\\u001f"}',
        b'{"a":1,"a":2}',
        b'{"x":{"a":1,"a":1}}',
        b'{"a":[]}',
        b'{"a":{}}',
        b"{}",
        b'{"a":null}',
        b'{"a":["b",null]}',
        b'{"a":' + b"1" * 5000 + b"}",
        b'{"a":' + b"[" * 5000 + b"1" + b"]" * 5000 + b"}",
        b'{"a":' + b"[" * 64 + b"1" + b"]" * 64 + b"}",
        b"\xef\xbb\xbf{}",
        '{"a":"ä"}'.encode("latin-1"),
        '{"a":"b"}'.encode("utf-16"),
    ],
)
def test_ambiguous_json_and_json_that_fhir_forbids_is_refused(raw: bytes) -> None:
    with pytest.raises(Problem) as refusal:
        document.parse(raw)
    assert refusal.value.category is Category.INCORRECT


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_and_nothing_else_happens(raw: bytes) -> None:
    with suppress(Problem):
        document.parse(raw)


def test_every_official_example_is_kept_exactly(shared: Path) -> None:
    examples = sorted((shared / "data" / "fhir-r4-examples").glob("*.json"))
    assert examples
    for example in examples:
        raw = example.read_bytes()
        expected = exactly(raw) | {"id": "1"}
        expected["meta"] = expected.get("meta", {}) | {"versionId": "1", "lastUpdated": "2026-01-15T12:00:00.000000Z"}
        assert stored(raw) == expected, example.name


own = st.recursive(
    st.one_of(
        st.decimals(allow_nan=False, allow_infinity=False),
        st.floats(allow_nan=False, allow_infinity=False),
        st.integers(-(2**63), 2**64 - 1),
        st.sampled_from(
            [
                Decimal("1.10"),
                Decimal("1E+299"),
                Decimal("-0"),
                1e-305,
                1e305,
                -1.5e308,
                5e-324,
                Decimal("1" * 64),
                Decimal("1" * 65),
            ]
        ),
        st.booleans(),
        st.text(max_size=6),
        st.none(),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "_a", "meta"]), inner)),
    max_leaves=8,
)


def outcome(make: Callable[[dict[str, Any]], document.Document], value: dict[str, Any]) -> Any:
    """Return what is stored of a resource, or how it is refused."""
    try:
        made = make(value)
    except Problem as refused:
        return type(refused), refused.category, str(refused)
    return document.stamp(made, resource_id="1", version=1, last_updated=AT), made.plain


@given(own)
def test_a_resource_of_our_own_is_stored_and_refused_as_its_json_would_be(value: Any) -> None:
    resource = {"resourceType": "Basic", "x": value}
    assert outcome(document.of, resource) == outcome(lambda it: document.parse(document.encode(it)), resource)


def test_a_hexadecimal_id_is_no_number_with_a_great_exponent() -> None:
    resource = {"resourceType": "Basic", "id": "5e308-e999", "code": {"text": "1e400"}, "author": {"reference": "1e3"}}
    made = document.of(resource)
    assert made.exact["code"] is resource["code"]  # it was not read a second time
