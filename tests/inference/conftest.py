"""Brings models with code, and ends the processes that a test has started."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from inference.isolated.child_process import ProcessLimits
from inference.isolated.keeper import Keeper

from .code_models import Models


@pytest.fixture
def models(tmp_path: Path) -> Iterator[Models]:
    made = Models(tmp_path)
    yield made
    made.close()


@pytest.fixture
def keep() -> Iterator[Callable[..., Keeper]]:
    """Keep the process of some code, without a folder around it."""
    kept: list[Keeper] = []

    def one(code: str, **more: Any) -> Keeper:
        limits = ProcessLimits(**{name: more.pop(name) for name in ("memory_mb", "seconds") if name in more})
        kept.append(Keeper("tiny", lambda: {"model.py": code.encode()}, limits, **more))
        return kept[-1]

    yield one
    for keeper in kept:
        keeper.close()
