"""Completes a model folder with card, golden answers and checksums; used by training scripts, not by the server."""

from collections.abc import Mapping
from pathlib import Path

from inference.card import render_card
from inference.digest import read_files, seal
from inference.features.spec import parse_features
from inference.folder import CARD, ModelFolder, read_declaration
from inference.golden import settle_golden
from inference.manifest import parse_manifest
from inference.remote.permitted import NO_HOSTS, RemoteHosts
from inference.runners import build_runner


def finalize_folder(
    path: Path,
    evidence: Mapping[str, str],
    *,
    package: str | None = None,
    run_code: bool = False,
    remote_hosts: RemoteHosts = NO_HOSTS,
) -> str:
    """Write the card, compare or record the golden answers, and seal the folder; never overwrite an answer.

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
    declared = read_declaration(read_files(path))
    manifest = parse_manifest(declared["model"])
    features = parse_features(declared["features"]) if declared["features"] is not None else ()
    card = render_card(manifest, evidence)
    (path / CARD).write_text(card, encoding="utf-8")
    unsealed = ModelFolder(
        path=path,
        digest="",
        manifest=manifest,
        features=features,
        card=card,
        declaration="",
        package=package,
        files=read_files(path),
        code_allowed=run_code,
    )
    runner = build_runner(unsealed, remote_hosts)
    runner.setup("cpu")
    try:
        settle_golden(runner)
    finally:
        runner.close()
    return seal(path)
