"""Completes a model folder with card, golden answers and checksums; used by training scripts, not by the server."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from inference.card import render_card
from inference.digest import Verified, read_files, seal, write_files
from inference.folder import CARD, find_package, read_declaration, read_model
from inference.golden import settle_golden
from inference.manifest import parse_manifest
from inference.remote.permitted import NO_HOSTS, RemoteHosts
from inference.runners import build_runner

_NO_CASES: Final[Mapping[str, bytes]] = MappingProxyType({})


def finalize_folder(
    path: Path,
    evidence: Mapping[str, str],
    *,
    package: str | None = None,
    run_code: bool = False,
    remote_hosts: RemoteHosts = NO_HOSTS,
    cases: Mapping[str, bytes] = _NO_CASES,
) -> str:
    """Write the card, compare or record the golden answers, and seal the folder; never overwrite an answer.

    A folder that is refused is left as it was.

    Parameters
    ----------
    path
        A folder with ``model.yaml``, ``features.yaml`` and weights as its runner needs them, and golden inputs.
    evidence
        Sections of the card, heading -> Markdown: what was measured, on which data.
    package
        The package that the model's ``model.py`` is part of, when it has one.
    run_code
        Whether code that the folder brings may run, in a process of its own, to answer the golden cases.
    remote_hosts
        Servers that the model may call.
    cases
        Golden cases to be added to the folder: name in it -> content.

    Returns
    -------
    str
        The model's digest.

    Raises
    ------
    Problem
        ``incorrect`` when a declaration or the weights are wrong; ``conflict``, naming the golden case, when the model
        has another prediction than the recorded one.
    """
    files = {**read_files(path), **cases}
    declared = read_declaration(files)
    written = {CARD: render_card(parse_manifest(declared["model"]), evidence).encode(), **cases}
    unsealed = read_model(path, Verified(digest="", files={**files, **written}))
    unsealed = find_package(unsealed) if package is None else replace(unsealed, package=package)
    runner = build_runner(replace(unsealed, code_allowed=run_code), remote_hosts)
    runner.setup("cpu")
    try:
        written |= settle_golden(runner)
    finally:
        runner.close()
    write_files(path, written)
    return seal(path)
