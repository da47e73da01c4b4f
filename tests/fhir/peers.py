"""Node and the packages of ``tests/fhir/oracle``, which ``npm ci`` installs there; a test skips without them."""

import json
import shutil
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

OLDEST = 20
ORACLE = Path(__file__).parent / "oracle"

Said = list[tuple[str, str, str]]
"""Severity, text and place of each issue."""


def node() -> str:
    """Return the program; skips the test where it or the packages are missing."""
    found = shutil.which("node")
    if found is None or not (ORACLE / "node_modules").is_dir():
        pytest.skip("nodejs, and npm ci in tests/fhir/oracle, are needed")
    if _version(found) < OLDEST:
        pytest.skip(f"Node {OLDEST} or later is needed")
    return found


@cache
def _version(program: str) -> int:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
    return int(said.strip().lstrip("v").partition(".")[0])


def run(script: str, given: str = "", *words: str) -> str:
    """Run a script and return what it writes."""
    done = subprocess.run(
        [node(), ORACLE / script, *words],
        input=given,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def second_opinion(resources: Iterable[Any]) -> list[Said]:
    """Return what ``@medplum/core`` says of each resource, in one process."""
    given = "".join(f"{json.dumps(resource)}\n" for resource in resources)
    return [[tuple(issue) for issue in json.loads(line)] for line in run("validate.mjs", given).splitlines()]
