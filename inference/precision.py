"""Chooses the precision that a model computes in: a faster one where its golden cases allow it.

A processor or GPU computes several times as fast with numbers of 16 bits. Whether the answers stay what was approved
is a matter of the model and not of the device; so each golden case must hold within its own tolerance, at every load.
"""

from typing import Any

from inference.golden import check_golden
from inference.runners.base import Runner
from kernel.errors import Problem
from kernel.log import get_logger

_log = get_logger(__name__)


def choose_precision(runner: Runner[Any, Any, Any]) -> str:
    """Let a runner compute in the fastest of its precisions in which every golden case holds, and return it.

    Parameters
    ----------
    runner
        Set up; its golden cases hold in the first of its precisions.
    """
    approved, *faster = runner.precisions()
    manifest = runner.model.manifest
    for precision in reversed(faster):
        runner.compute_in(precision)
        try:
            check_golden(runner)
        except Problem as problem:
            of = {"model": manifest.name, "version": manifest.version, "precision": precision}
            _log.warning("precision_not_kept", **of, reason=problem.detail)
        else:
            _log.info("precision_chosen", model=manifest.name, version=manifest.version, precision=precision)
            return precision
    runner.compute_in(approved)
    return approved
