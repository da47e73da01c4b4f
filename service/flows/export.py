"""The two steps of a bulk export: write the files, and delete them later.

    export          job -> fix the time, read page by page, write sealed files => the manifest, and the job that deletes
    remove-export   job -> delete the files => delete the row

An attempt that dies leaves files that no row names. The next one begins again, in a folder of its own, with the same
fixed time: it writes the same resources.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import orjson

from fhir_adapter.bulk.exports import Export, Exports, Output, context_of
from fhir_adapter.bulk.files import SealedLines
from fhir_adapter.bulk.request import ExportRequest
from fhir_adapter.bulk.select import Selection, pages
from fhir_adapter.results.common import SHADOW
from fhir_adapter.store.problems import Gone
from fhir_adapter.store.store import Store
from fhir_adapter.store.times import point
from fhir_adapter.store.versions import StoredVersion
from kernel.db import Database
from kernel.errors import Category, Problem
from kernel.jobs import Job
from kernel.worker import Commit

LONGEST_FILE: Final = 200_000
"""Resources in one file; more of a type are in several."""
_NOTED: Final = 10_000
"""So many resources are written between two looks at whether the export is still wanted."""


class ExportFlow:
    """The steps of bulk exports.

    Parameters
    ----------
    database
        Where the resources and the exports are.
    store
        Reads the Group of an export.
    exports
        The exports.
    types
        The resource types that are stored.
    """

    def __init__(self, database: Database, store: Store, exports: Exports, types: frozenset[str]) -> None:
        self._database = database
        self._store = store
        self._exports = exports
        self._types = sorted(types)

    def export(self, job: Job) -> Commit:
        """Write the files of an export; return the commit that shows them."""
        name = str(job.payload["export"])
        self._database.write(lambda tx: self._exports.begin(tx, name))
        with self._database.read() as connection:
            export = self._exports.get(connection, name)
        if export is None or export.state != "running":
            return _nothing
        outputs = self._written(export)
        if outputs is None:
            self._exports.remove(name)
            return _nothing
        return lambda tx: self._exports.complete(tx, name, outputs)

    def remove(self, job: Job) -> Commit:
        """Delete the files of an export; return the commit that forgets it."""
        name = str(job.payload["export"])
        self._exports.remove(name)
        return lambda tx: self._exports.forget(tx, name)

    def _written(self, export: Export) -> list[Output] | None:
        """Write the files; None when the export is no longer wanted."""
        writing = _Writing(self._exports, export, *self._exports.attempt(export.id))
        noted = 0
        for selection in self._selections(export):
            with writing.of_type(selection.type):
                for page in pages(self._database, selection):
                    writing.add(page)
                    if writing.written - noted >= _NOTED:
                        noted = writing.written
                        if not self._noted(export, noted):
                            return None
        return writing.finished() if self._noted(export, writing.written) else None

    def _noted(self, export: Export, written: int) -> bool:
        return self._database.write(lambda tx: self._exports.note(tx, export.id, written))

    def _selections(self, export: Export) -> Iterator[Selection]:
        request = export.request
        patients = self._patients(request)
        filters = request.queries()
        for kind in request.types(self._types):
            yield Selection(
                type=kind,
                as_of=export.as_of,
                since=point(request.since),
                filters=tuple(filters.get(kind, ())),
                of_patients=request.level != "system",
                patients=patients,
                hidden=(SHADOW["system"], SHADOW["code"]),
            )

    def _patients(self, request: ExportRequest) -> frozenset[str] | None:
        wanted = frozenset(request.patients) or None
        if request.level != "group":
            return wanted
        with self._database.read() as connection:
            try:
                group = orjson.loads(self._store.read(connection, "Group", request.group).content)
            except (Problem, Gone) as failure:
                raise Problem(Category.NOT_FOUND, "there is no such Group any more") from failure
        members = frozenset(
            str(it.get("entity", {}).get("reference", ""))
            for it in group.get("member", ())
            if it.get("inactive") is not True
        )
        return members if wanted is None else members & wanted


class _Writing:
    """The files of one attempt."""

    def __init__(self, exports: Exports, export: Export, folder: str, place: Path) -> None:
        self._exports = exports
        self._export = export
        self._folder = folder
        self._place = place
        self._outputs: list[Output] = []
        self._open: dict[str, SealedLines] = {}
        self._type = ""
        self.written = 0

    @contextmanager
    def of_type(self, kind: str) -> Iterator[None]:
        """Write resources of a type until the context ends; then its files are durable, unless something was raised."""
        self._type = kind
        try:
            yield
            for of, file in sorted(self._open.items()):
                self._end(of, file)
        finally:
            for file in self._open.values():
                file.abandon()
            self._open.clear()

    def add(self, page: Sequence[StoredVersion]) -> None:
        """Write the resources of a page."""
        for version in page:
            if version.deleted:
                self._file("deleted").add(_deletion(version))
            else:
                self._file("output").add(version.content)
        self.written += len(page)

    def finished(self) -> list[Output]:
        """Return the files, all durable."""
        return self._outputs

    def _file(self, of: str) -> SealedLines:
        file = self._open.get(of)
        if file is not None and file.count < LONGEST_FILE:
            return file
        if file is not None:
            self._end(of, file)
        file = SealedLines(self._place / self._name(of), self._context(self._name(of)), self._exports.cipher)
        self._open[of] = file
        return file

    def _name(self, of: str) -> str:
        kind = self._type if of == "output" else f"{self._type}-deleted"
        return f"{kind}-{1 + sum((it.list, it.name.rpartition('-')[0]) == (of, kind) for it in self._outputs)}.ndjson"

    def _context(self, name: str) -> str:
        return context_of(self._export.id, self._folder, name)

    def _end(self, of: str, file: SealedLines) -> None:
        name = self._name(of)
        file.finish()
        self._outputs.append(
            Output(
                list=of,
                type=self._type if of == "output" else "Bundle",
                name=name,
                folder=self._folder,
                count=file.count,
                size=file.size,
                parts=file.parts,
            )
        )


def _deletion(version: StoredVersion) -> bytes:
    """Return the line of a deleted resource (Bulk Data Access IG 2.0, export.html#deleted)."""
    request = {"method": "DELETE", "url": f"{version.type}/{version.id}"}
    return orjson.dumps({"resourceType": "Bundle", "type": "transaction", "entry": [{"request": request}]})


def _nothing(_tx: object) -> None:
    """Change nothing: the export was cancelled, or is done."""
