"""Whatever a resource of R4 holds, it is refused with a reason or stored, served as it was sent, and found."""

import os
from collections import Counter
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from fhir_adapter.store.search.parameters import of

from .generated import KINDS, resources
from .harness import Server
from .test_examples import exactly

EXAMPLES = int(os.environ.get("AUSCULTA_FUZZ_EXAMPLES", "4")) * 50
VALUES = (
    *("x", "Patient/x", "2026", "1", "gt9999", "ap0001-01-01", "lt1E300", "-0|http://x.org|u"),
    *("|", "a|b|c|d", "$", "a$b", ",", "\\", "é😀"),
)
MODIFIERS = (
    *("", "", "", ":exact", ":contains", ":missing", ":not", ":text"),
    *(":identifier", ":in", ":Patient", ".name", "."),
)
LENIENT = {"Prefer": "handling=lenient"}
SEED = int(os.environ.get("AUSCULTA_FUZZ_SEED", "1"))


@pytest.fixture(scope="module")
def client(lasting: Server) -> httpx.Client:
    return lasting.client


def answered(answer: httpx.Response, *expected: int) -> httpx.Response:
    assert answer.status_code in {*expected, 400, 422}, answer.text
    if answer.status_code >= 400:
        assert answer.json()["resourceType"] == "OperationOutcome"
    return answer


def test_a_generated_resource_is_refused_or_stored_served_and_found(client: httpx.Client) -> None:
    results: Counter[bool] = Counter()

    @seed(SEED)
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(resources())
    def check(sent: bytes) -> None:
        results[is_stored_as_sent(client, sent)] += 1

    check()
    assert results[True] > results[False] / 4


def is_stored_as_sent(client: httpx.Client, sent: bytes) -> bool:
    kind = exactly(sent)["resourceType"]
    address = f"/{kind}/generated"
    stored = answered(client.put(address, content=sent), 200, 201)
    issues = answered(client.post(f"/{kind}/$validate", content=sent), 200).json()["issue"]
    assert any(it["severity"] in {"error", "fatal"} for it in issues) == (stored.status_code >= 400)
    if stored.status_code >= 400:
        return False
    assert without_meta(stored.content) == without_meta(sent)
    assert without_meta(client.get(address).content) == without_meta(sent)
    (found,) = exactly(client.get(f"/{kind}?_id=generated").content)["entry"]
    assert found["resource"] == exactly(stored.content)
    for view in ("_summary=true", "_summary=text", "_elements=id", "_pretty=true"):
        assert client.get(f"{address}?{view}").status_code == 200
    for name in of(kind):
        answered(client.get(f"/{kind}?_sort={name},-_id&_include={kind}:*", headers=LENIENT), 200)
    return True


def without_meta(raw: bytes) -> Any:
    return {name: value for name, value in exactly(raw).items() if name != "meta"}


@st.composite
def searches(draw: st.DrawFn) -> tuple[str, list[tuple[str, str]]]:
    kind = draw(st.sampled_from(KINDS))
    names = st.sampled_from(sorted(of(kind))).flatmap(lambda it: st.sampled_from(MODIFIERS).map(lambda end: it + end))
    values = st.one_of(st.sampled_from(VALUES), st.text(st.characters(codec="utf-8"), max_size=20))
    pairs = draw(st.lists(st.tuples(names, values), min_size=1, max_size=3))
    control = st.sampled_from(
        [("_count", "0"), ("_count", "1"), ("_sort", "_id,-_lastUpdated"), ("_total", "accurate")]
    )
    return kind, pairs + draw(st.lists(control, max_size=2))


@seed(SEED)
@settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(searches(), st.booleans())
def test_a_generated_search_is_refused_or_answered(
    client: httpx.Client, search: tuple[str, list[tuple[str, str]]], lenient: bool
) -> None:
    kind, pairs = search
    found = answered(client.get(f"/{kind}", params=pairs, headers=LENIENT if lenient else {}), 200, 403)
    form = httpx.QueryParams(pairs)
    headers = {"Content-Type": "application/x-www-form-urlencoded", **(LENIENT if lenient else {})}
    posted = client.post(f"/{kind}/_search", content=str(form), headers=headers)
    assert posted.status_code == found.status_code
    if found.status_code == 200:
        assert posted.json().get("entry") == found.json().get("entry")
        for link in found.json()["link"]:
            assert client.get(link["url"]).status_code == 200
