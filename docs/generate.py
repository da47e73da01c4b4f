"""Writes the tables of the reference pages from the code that they describe.

A page holds ``<!-- generated: NAME -->`` … ``<!-- end -->``; what stands between is made by the function of that name
in :data:`TABLES`. ``python docs/generate.py`` writes every page again; ``--check`` only says which would change, and
``tests/project/test_docs.py`` fails when one would.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, get_type_hints

import typer
from pydicom.uid import UID
from pynetdicom import ALL_TRANSFER_SYNTAXES

from dicom_node.listener.limits import DicomLimits
from dicom_node.results import RESULTS
from dicom_node.scu import Timeouts as DicomTimeouts
from fhir_adapter.ehr.upstream import Timeouts as FhirTimeouts
from fhir_adapter.hl7v2.client import Timeouts as MllpTimeouts
from fhir_adapter.hl7v2.messages import MESSAGES
from fhir_adapter.hl7v2.mllp import MllpLimits
from fhir_adapter.hl7v2.segments.obx_value import READERS
from fhir_adapter.rest.openapi import STATED
from fhir_adapter.rest.routes import AUDIT_INTERACTIONS, ROUTES
from fhir_adapter.store.search.compile import LEFT_OUT
from fhir_adapter.store.search.parameters import of, types
from inference.features.analytes import ANALYTES
from inference.folder import bundled_folder, open_folder
from inference.models import MODELS
from inference.runners import RUNNERS
from kernel import errors
from kernel.errors import ACK_CODE, DIMSE_STATUS, HTTP_STATUS, ISSUE_CODE, JOB_DECISION, Category
from service.cli import app
from service.settings import PREFIX, SETTINGS

DOCS: Final = Path(__file__).resolve().parent
_REGION: Final = re.compile(r"(<!-- generated: ([a-z0-9-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_SIZES: Final = frozenset({"largest_message", "most_buffered", "maximum_length", "pdu_bytes", "instance_bytes"})
_FIELD_COMMENT: Final = re.compile(r"((?:^    #: .*\n)+)    (\w+):", re.MULTILINE)


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Write a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def settings() -> str:
    """List every setting, its default and its meaning."""
    rows = (
        (
            f"`{setting.name}`",
            f"`{PREFIX}{setting.name}`",
            f"`{setting.name.lower()}`",
            _default(setting.default),
            setting.help,
        )
        for setting in SETTINGS
    )
    return table(("setting", "environment", "TOML", "default", "meaning"), rows)


def commands() -> str:
    """List every command, with its arguments and options."""
    root = typer.main.get_command(app)
    return "\n\n".join(_command("ausculta", root))


def command_paths() -> list[str]:
    """Return every command as one types it."""
    found, waiting = [], [("ausculta", typer.main.get_command(app))]
    while waiting:
        path, command = waiting.pop()
        children = getattr(command, "commands", {})
        waiting += [(f"{path} {name}", child) for name, child in children.items()]
        if not children:
            found.append(path)
    return sorted(found)


def error_categories() -> str:
    """List the nine categories and what each listener makes of them."""
    meaning = dict(re.findall(r"^      ([a-z-]+) +(.+)$", errors.__doc__ or "", re.MULTILINE))
    rows = (
        (
            f"`{kind}`",
            meaning[kind],
            f"{HTTP_STATUS[kind]} `{ISSUE_CODE[kind]}`",
            ACK_CODE[kind],
            f"0x{DIMSE_STATUS[kind]:04X}",
            JOB_DECISION[kind],
        )
        for kind in Category
    )
    return table(("category", "meaning", "HTTP, issue code", "MSA-1", "C-STORE status", "job"), rows)


def fhir_interactions() -> str:
    """List what may be asked of the FHIR API."""
    rows = []
    for route in ROUTES:
        on_audit = route.level != "system" and AUDIT_INTERACTIONS.issuperset(route.codes)
        condition = "?…" if route.path == ("{type}",) and route.method in {"PUT", "PATCH", "DELETE"} else ""
        request = f"`{route.method} [base]{''.join(f'/{part}' for part in route.path)}{condition}`"
        rows.append((", ".join(f"`{code}`" for code in route.codes), request, "yes" if on_audit else "no"))
    rows += [("`capabilities`", f"`GET [base]/{name}`", "") for name in STATED]
    return table(("interaction", "request", "on AuditEvent"), rows)


def fhir_search() -> str:
    """List what each type can be searched by."""
    common = [it for name, it in of("Basic").items() if name.startswith("_")]
    rows = [("every type", ", ".join(f"`{it.name}` ({it.kind})" for it in common))]
    for kind in types():
        own = [name for name in of(kind) if not name.startswith("_")]
        if own:
            rows.append((f"`{kind}`", ", ".join(f"`{name}`" for name in own)))
    left_out = ", ".join(f"`{name}` ({why})" for name, why in LEFT_OUT.items())
    return f"{table(('type', 'search parameters'), rows)}\n\nNot offered: {left_out}."


def hl7_messages() -> str:
    """List which messages are taken."""
    rows = ((f"`{event}`", f"`{message.resources.__module__}`") for event, message in MESSAGES.items())
    return table(("message", "converted by"), rows)


def hl7_values() -> str:
    """List which types of OBX-5 are read as what they are."""
    return ", ".join(f"`{kind}`" for kind in READERS)


def models() -> str:
    """List the models that come with the software."""
    rows = []
    for name in MODELS:
        manifest = open_folder(bundled_folder(name)).manifest
        selection = manifest.input.selection
        reads = ", ".join(manifest.trigger.codes or (*sorted(selection.modalities), *selection.body_parts))
        says = "; ".join(f"{output.display} (`{output.code}`)" for output in manifest.outputs)
        demonstration = "yes" if manifest.demonstration else "no"
        rows.append((f"`{name}`", manifest.version, manifest.runner, reads, says, demonstration))
    return table(("model", "version", "runner", "triggered by", "says", "demonstration"), rows)


def runners() -> str:
    """List the kinds of model that can be run."""
    return ", ".join(f"`{name}`" for name in RUNNERS)


def dicom_results() -> str:
    """List what a result becomes in the PACS."""
    rows = ((f"`{kind}`", _first_line(inspect.getmodule(build))) for kind, build in RESULTS.items())
    return table(("kind", "object"), rows)


def transfer_syntaxes() -> str:
    """List how instances may be encoded on the wire."""
    rows = ((f"`{uid}`", UID(uid).name) for uid in ALL_TRANSFER_SYNTAXES)
    return table(("UID", "name"), rows)


def dicom_limits() -> str:
    """List the bounds of the DICOM listener."""
    return _record(DicomLimits)


def dicom_timeouts() -> str:
    """List how long the sender of DICOM waits."""
    return _record(DicomTimeouts)


def analytes() -> str:
    """List the names that ``analyte`` may have."""
    return ", ".join(f"`{name}`" for name in ANALYTES)


def mllp_limits() -> str:
    """List the bounds of the MLLP listener."""
    return _record(MllpLimits)


def mllp_timeouts() -> str:
    """List how long the sender of HL7 v2 waits."""
    return _record(MllpTimeouts)


def fhir_timeouts() -> str:
    """List how long the sender of FHIR waits."""
    return table(("what", "seconds"), ((field.name, f"{field.default:g}") for field in fields(FhirTimeouts)))


TABLES: Final[Mapping[str, Callable[[], str]]] = {
    "settings": settings,
    "commands": commands,
    "error-categories": error_categories,
    "fhir-interactions": fhir_interactions,
    "fhir-search": fhir_search,
    "fhir-timeouts": fhir_timeouts,
    "hl7-messages": hl7_messages,
    "hl7-values": hl7_values,
    "mllp-limits": mllp_limits,
    "mllp-timeouts": mllp_timeouts,
    "models": models,
    "runners": runners,
    "analytes": analytes,
    "dicom-results": dicom_results,
    "transfer-syntaxes": transfer_syntaxes,
    "dicom-limits": dicom_limits,
    "dicom-timeouts": dicom_timeouts,
}
"""Name of a region -> what writes it."""


def rendered(page: str) -> str:
    """Return a page with every generated region as it should be."""
    return _REGION.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n\n{found[3]}", page)


def pages() -> dict[Path, str]:
    """Return every page that holds a generated region, with its text as it is."""
    found = {path: path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))}
    return {path: text for path, text in found.items() if _REGION.search(text)}


def stale() -> dict[Path, str]:
    """Return the pages that do not say what the code says, with the text that would."""
    wanted = {path: rendered(text) for path, text in pages().items()}
    return {path: text for path, text in wanted.items() if text != path.read_text(encoding="utf-8")}


def _default(value: Any) -> str:
    if value in (None, "", (), {}):
        return "empty"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _first_line(module: Any) -> str:
    return (module.__doc__ or "").splitlines()[0].removesuffix(".")


def _record(kind: type[Any]) -> str:
    """Write a record of limits: name, default, and the comment beside it."""
    comments = {
        name: " ".join(line.strip().removeprefix("#:").strip() for line in text.splitlines())
        for text, name in _FIELD_COMMENT.findall(inspect.getsource(kind))
    }
    rows = (
        (f"`{field.name}`", _amount(field.name, field.default), comments.get(field.name, "")) for field in fields(kind)
    )
    return table(("limit", "value", "meaning"), rows)


def _amount(name: str, value: float) -> str:
    """Write seconds and numbers as they are, and sizes in bytes in a unit that one can read."""
    if name in _SIZES:
        return f"{value / 2**20:g} MiB" if value >= 2**20 else f"{value / 2**10:g} KiB"
    return f"{value:g}"


def _command(path: str, command: Any) -> list[str]:
    children = getattr(command, "commands", {})
    if children:
        own = [] if path == "ausculta" else [f"## `{path}`\n\n{_help(command)}"]
        return own + [part for name, child in children.items() for part in _command(f"{path} {name}", child)]
    arguments = [it for it in command.params if it.param_type_name == "argument"]
    options = [it for it in command.params if it.param_type_name == "option" and it.name != "help"]
    usage = " ".join([path, *(_usage(it) for it in arguments), *(["[OPTIONS]"] if options else [])])
    level = "###" if path.count(" ") > 1 else "##"
    parts = [f"{level} `{path}`\n\n{_help(command)}\n\n```text\n{usage}\n```"]
    rows = [(f"`{_usage(it)}`", _about(command, it.name), "") for it in arguments]
    rows += [(" ".join(f"`{name}`" for name in it.opts), it.help or "", _shown(it)) for it in options]
    return [*parts, table(("argument or option", "meaning", "default"), rows)] if rows else parts


def _help(command: Any) -> str:
    return " ".join((command.help or "").split())


def _about(command: Any, argument: str) -> str:
    """Return an argument's help, which the installed typer and click lose on their way to ``--help``."""
    hints = get_type_hints(inspect.unwrap(command.callback), include_extras=True)
    helps = (getattr(it, "help", None) for it in getattr(hints[argument], "__metadata__", ()))
    return next((text for text in helps if text), "")


def _usage(argument: Any) -> str:
    name = argument.name.upper() + ("…" if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _shown(option: Any) -> str:
    default = option.default
    return "" if default is None or isinstance(default, bool) else f"`{default}`"


def main(check: bool) -> int:  # noqa: FBT001 - one switch, given by the command line
    """Write, or check, every page; return the exit code."""
    found = stale()
    for path, text in found.items():
        print(f"{'stale' if check else 'written'}: {path.relative_to(DOCS.parent)}")  # noqa: T201 - a program
        if not check:
            path.write_text(text, encoding="utf-8")
    return 1 if check and found else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
