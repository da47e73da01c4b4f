"""The application keeps its own rules: sizes, layers, one distribution, tables that list every file of their folder."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from service.packages import PACKAGES

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = [path for package in PACKAGES for path in sorted((REPOSITORY / package).rglob("*.py"))]
TESTS = sorted((REPOSITORY / "tests").rglob("*.py")) + sorted((REPOSITORY / "benchmarks").rglob("*.py"))


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("path", SOURCES + TESTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_file_is_longer_than_500_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500


def test_functions_are_short() -> None:
    sizes = sorted(
        (code_lines(function), f"{path.relative_to(REPOSITORY)}:{function.lineno} {function.name}")
        for path in SOURCES
        if "migrations/versions" not in str(path)
        for function in functions(path)
    )
    ninety_fifth = sizes[int(len(sizes) * 0.95)][0]
    longest = [size for size in sizes if size[0] > 60]
    assert ninety_fifth <= 35
    assert longest == []


def test_imports_only_go_down() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run([linter], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("package", [name for name in PACKAGES if name != "service"])
def test_only_the_settings_module_reads_the_environment(package: str) -> None:
    for path in (REPOSITORY / package).rglob("*.py"):
        assert "os.environ" not in path.read_text(encoding="utf-8"), path


def test_nothing_is_loaded_by_unpickling() -> None:
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert "import pickle" not in text, path
        assert "torch.load" not in text, path


def files(folder: str) -> set[str]:
    return {path.stem for path in (REPOSITORY / folder).glob("*.py")} - {"__init__"}


def test_every_destination_is_listed() -> None:
    from service.destinations import KINDS

    assert set(KINDS) == files("service/destinations") - {"contract", "leave_out", "table"}


def test_every_kind_of_input_has_a_reader() -> None:
    from inference.contract import InputKind
    from service.flows.inputs import READERS

    assert set(READERS) == set(get_args(InputKind)) == files("service/flows/inputs") - {"contract", "observed"}
