"""``ausculta models`` on folders that are not registered: a skeleton from a file, and checks before it is added."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inference.manifest import Manifest
from inference.remote.permitted import RemoteHosts
from kernel.errors import Category, Problem
from service.commands.patient_bundle import read_bundle

if TYPE_CHECKING:
    from inference.contract import FactsInput, ModelInput
    from inference.loading import AnyRunner


def new(
    name: Annotated[str, typer.Argument(help="Name of the model, and of the folder that is written here.")],
    source: Annotated[Path, typer.Option("--from", help="File that a library wrote, or folder of save_pretrained.")],
    features: Annotated[
        Path | None,
        typer.Option(help="The features.yaml that the training table was made with; it is copied.", dir_okay=False),
    ] = None,
) -> None:
    """Write the skeleton of a model folder from the file that a library wrote."""
    from inference.scaffold.inspect import inspect_file
    from inference.scaffold.write import check_features, write_folder

    found = inspect_file(source)
    stated = None if features is None else _content(features)
    if stated is not None:
        check_features(found, stated)
    folder = Path.cwd() / name
    write_folder(folder, name, found, stated)
    unfilled = f"{name}/*.yaml" if stated is None else f"{name}/model.yaml"
    typer.echo(f"{name}/ is written: {found.runner} of {found.input}, {found.output}")
    typer.echo(f"Replace every FILL-IN in {unfilled}, then run: ausculta models verify {name} --record")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as failure:
        raise Problem(Category.INCORRECT, f"{path.name} cannot be read", diagnostics=repr(failure)) from failure


def verify_folder(
    folder: Path, *, record: bool, bundle: Path | None, hosts: RemoteHosts, run_code: bool = False
) -> None:
    """Check a folder that is not registered, and print what was found.

    Parameters
    ----------
    folder
        The model folder.
    record
        Write the card, record the golden answers that are missing, and seal the folder first.
    bundle
        A FHIR Bundle of one patient, on which the model is run.
    run_code
        Whether code that the folder brings may run, in a process of its own: the person at the terminal says so.
    hosts
        Servers that the model may call.
    """
    from inference.digest import check_sealed
    from inference.loading import load_model

    if record:
        _record(folder, hosts, run_code=run_code)
    check_sealed(folder)
    runner = load_model(folder, run_code=run_code, remote_hosts=hosts)
    try:
        _report(runner, bundle)
    finally:
        runner.close()


def _report(runner: "AnyRunner", bundle: Path | None) -> None:
    manifest, digest = runner.model.manifest, runner.model.digest
    typer.echo(f"{manifest.name} {manifest.version}: files and golden cases are as sealed ({digest})")
    if bundle is not None:
        for line in _dry_run(runner, bundle):
            typer.echo(line)


def _record(folder: Path, hosts: RemoteHosts, *, run_code: bool) -> None:
    from inference.digest import read_files
    from inference.features.spec import parse_features
    from inference.finalize import finalize_folder
    from inference.folder import read_declaration
    from inference.manifest import parse_manifest
    from inference.scaffold.cases import make_cases

    files = read_files(folder)
    declared = read_declaration(files)
    features = parse_features(declared["features"]) if declared["features"] is not None else ()
    made = make_cases(files, parse_manifest(declared["model"]), features)
    evidence = folder / "evidence.md"
    stated = _sections(evidence.read_text(encoding="utf-8")) if evidence.is_file() else _NO_EVIDENCE
    finalize_folder(folder, stated, run_code=run_code, remote_hosts=hosts, cases=made)
    typer.echo("recorded: check that the answers in golden/*.json are what the training program gives")
    if made:
        typer.echo(f"golden cases made from the plausible ranges: {', '.join(Path(name).stem for name in made)}")


_NO_EVIDENCE: Mapping[str, str] = {
    "Evidence": "None is stated. Write what was measured, on which data, into `evidence.md`."
}


def _sections(text: str) -> Mapping[str, str]:
    """Return the sections of a Markdown text by their headings of the second level."""
    parts = f"\n{text}".split("\n## ")[1:]
    named = [part.partition("\n") for part in parts]
    return {heading.strip(): body.strip() for heading, _, body in named} or {"Evidence": text.strip()}


def _dry_run(runner: "AnyRunner", bundle: Path) -> Iterator[str]:
    """Yield what the model says of the patient in a Bundle, as lines."""
    from inference.features.records import stated_codes
    from inference.gaps import check_gaps
    from inference.golden import infer
    from inference.runners.base import Declined
    from inference.wording import unit_in_words

    manifest = runner.model.manifest
    given = _input(manifest, runner, read_bundle(bundle, stated_codes(runner.model.features)))
    try:
        decoded = runner.decode(given)
        check_gaps(manifest.limits, runner.model.features, decoded.features)
        answer = infer(runner, given)
    except Declined as declined:
        yield f"declined: {declined.reason}"
        return
    for used in decoded.inputs:
        yield f"read {used.name} = {used.value} {unit_in_words(used.unit)} from {used.source}".replace("  ", " ")
    for use in decoded.features:
        if use.status != "used":
            yield f"without {use.name}: {use.why or use.status}"
    for output in answer.outputs:
        yield output.text


def _input(manifest: Manifest, runner: "AnyRunner", facts: "FactsInput") -> "ModelInput":
    from inference.features.series import series_input

    selection = manifest.input.selection
    if manifest.input.kind == "series" and selection.hours is not None and selection.step_hours is not None:
        return series_input(runner.model.features, facts, hours=selection.hours, step_hours=selection.step_hours)
    if manifest.input.kind != "facts":
        raise Problem(
            Category.UNSUPPORTED, f"a Bundle holds facts and series; {manifest.name} reads {manifest.input.kind}"
        )
    return facts
