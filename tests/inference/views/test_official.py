"""The official tests of SQL on FHIR v2 (FHIR/sql-on-fhir-v2, commit 49fc1adf)."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from inference.views import compile_view
from kernel.errors import Problem

FAILING: dict[str, str] = {}
"""File and title of a test that does not pass -> why; none is left."""
FILES = (
    *("basic", "collection", "combinations", "constant", "constant_types", "fhirpath", "fhirpath_numbers"),
    *("fn_boundary", "fn_empty", "fn_extension", "fn_first", "fn_join", "fn_oftype", "fn_reference_keys", "foreach"),
    *("logic", "repeat", "row_index", "union", "validate", "view_resource", "where"),
)


def value(found: Any) -> Any:
    """Return a value for comparison: JSON knows one kind of number."""
    if isinstance(found, list):
        return [value(it) for it in found]
    is_number = isinstance(found, int | float | Decimal) and not isinstance(found, bool)
    return float(found) if is_number else found


def in_order(rows: list[dict[str, Any]]) -> list[str]:
    """Return rows in an order of their own: that of a table says nothing."""
    return sorted(json.dumps({name: value(it) for name, it in row.items()}, sort_keys=True) for row in rows)


def table(test: dict[str, Any], resources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    view = compile_view(test["view"])
    assert view.slow == ()
    assert list(view.columns) == test.get("expectColumns", list(view.columns))
    return [dict(zip(view.columns, row, strict=True)) for resource in resources for row in view.rows(resource)]


@pytest.fixture(scope="module")
def files(shared: Path) -> dict[str, Any]:
    folder = shared / "standards" / "sql-on-fhir-tests"
    if not folder.is_dir():
        pytest.skip("the official tests of SQL on FHIR are not in the shared data folder")
    return {path.stem: orjson.loads(path.read_bytes()) for path in folder.glob("*.json")}


@pytest.mark.parametrize("name", FILES)
def test_an_official_file(files: dict[str, Any], name: str) -> None:
    for test in files[name]["tests"]:
        if f"{name}: {test['title']}" in FAILING:
            continue
        if test.get("expectError"):
            with pytest.raises(Problem):
                table(test, files[name]["resources"])
        else:
            assert in_order(table(test, files[name]["resources"])) == in_order(test["expect"]), test["title"]


def test_all_134_are_run(files: dict[str, Any]) -> None:
    assert set(files) == set(FILES)
    assert sum(len(file["tests"]) for file in files.values()) == 134
    assert len(FAILING) <= 6
