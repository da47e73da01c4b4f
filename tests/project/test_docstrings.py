"""Public functions describe their parameters and exceptions in numpydoc sections.

``Parameters`` is required of every public function with two or more parameters, ``Raises`` of every one whose own body
raises a ``Problem``, ``ValueError`` or ``TypeError``. The docstring of a command is its ``--help`` text: its
parameters carry a help text each, and every ``Problem`` ends it in the same way (``service.cli.main``).
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.packages import PACKAGES

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = [
    path
    for package in PACKAGES
    for path in sorted((REPOSITORY / package).rglob("*.py"))
    if "versions" not in path.parts and (path.name == "__init__.py" or not path.name.startswith("_"))
]
RAISED = {"Problem", "ValueError", "TypeError"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def public_functions(body: list[ast.stmt]) -> Iterator[Function]:
    """Yield the public functions of a module or class body, and of its public classes; nested functions are private."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body)
        elif isinstance(node, Function) and not node.name.startswith("_") and not is_property(node):
            yield node


def is_property(function: Function) -> bool:
    decorators = {ast.unparse(decorator) for decorator in function.decorator_list}
    return bool(decorators & {"property", "cached_property", "functools.cached_property", "overload"})


def is_command(function: Function) -> bool:
    return any(re.fullmatch(r"app\.command\(.*\)", ast.unparse(decorator)) for decorator in function.decorator_list)


def parameter_names(function: Function) -> list[str]:
    """Names of the parameters, without ``self``, ``cls`` and those that carry a help text for the command line."""
    arguments = function.args
    nodes = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    nodes += [node for node in (arguments.vararg, arguments.kwarg) if node is not None]
    named = [node for node in nodes if node.arg not in {"self", "cls"} and not node.arg.startswith("_")]
    return [node.arg for node in named if not has_help_text(node)]


def has_help_text(parameter: ast.arg) -> bool:
    """Tell whether Typer shows a text for it: written in place, or by an alias such as ``ConfigOption``."""
    annotation = ast.unparse(parameter.annotation) if parameter.annotation else ""
    return "help=" in annotation or annotation.endswith(("Option", "Argument"))


def section(docstring: str, title: str) -> str | None:
    """Return the text of one numpydoc section, or None when there is none."""
    found = re.search(rf"^{title}\n-{{{len(title)}}}\n(.*?)(?=^\w[\w ]*\n---|\Z)", docstring, re.MULTILINE | re.DOTALL)
    return found.group(1) if found else None


def documented_parameters(docstring: str) -> set[str]:
    """Names that the ``Parameters`` section describes; several may share an entry: ``clock, ids``."""
    entries = re.findall(r"^(\S[^:\n]*)", section(docstring, "Parameters") or "", re.MULTILINE)
    return {name.strip().lstrip("*") for entry in entries for name in entry.split(",")}


def refers_elsewhere(docstring: str) -> bool:
    """Tell whether the docstring names the function whose contract this one shares."""
    return re.search(r"\b[Aa]s (for )?:(meth|func|class):`", docstring) is not None


def describes_parameters(function: Function, docstring: str) -> bool:
    names = parameter_names(function)
    if len(names) < 2 or refers_elsewhere(docstring):
        return True
    return set(names) <= documented_parameters(docstring)


def raises_visibly(function: Function) -> bool:
    """Tell whether the function's own body, nested functions left out, raises one of ``RAISED``."""
    pending: list[ast.AST] = list(function.body)
    while pending:
        node = pending.pop()
        if isinstance(node, Function | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and ast.unparse(node.exc.func) in RAISED:
            return True
        pending.extend(ast.iter_child_nodes(node))
    return False


def describes_raises(function: Function, docstring: str) -> bool:
    if not raises_visibly(function) or section(docstring, "Raises") is not None or refers_elsewhere(docstring):
        return True
    return re.search(r"\b[Rr]aises (as )?(:\w+:)?`", docstring) is not None


def violations(path: Path) -> list[str]:
    """Return one line per missing section of a file."""
    missing = []
    for function in public_functions(ast.parse(path.read_text(encoding="utf-8")).body):
        docstring = ast.get_docstring(function) or ""
        if not describes_parameters(function, docstring):
            undocumented = sorted(set(parameter_names(function)) - documented_parameters(docstring))
            missing.append(f"{function.lineno} {function.name}: Parameters lacks {', '.join(undocumented)}")
        if not is_command(function) and not describes_raises(function, docstring):
            missing.append(f"{function.lineno} {function.name}: no Raises section")
    return missing


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_public_functions_describe_their_parameters_and_what_they_raise(path: Path) -> None:
    missing = violations(path)
    assert not missing, "\n".join(missing)
