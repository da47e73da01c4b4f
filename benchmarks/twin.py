"""The FHIR interface without storage: an upper limit with which the speed of durable creates is compared.

``python -m benchmarks.twin KIND PORT FOLDER`` serves the same application, with the same HTTP server and
endpoint, whose writes store nothing: ``unsaved`` still validates, ``ceiling`` does not validate either.
"""

import sys
from pathlib import Path
from typing import Final

from fhir_adapter.rest import writes
from fhir_adapter.rest.backend import Backend
from fhir_adapter.rest.steps import Call, Reply
from fhir_adapter.store.document import Document, stamp
from fhir_adapter.store.operations import PreparedChanges
from fhir_adapter.store.validate import Validator
from fhir_adapter.store.versions import StoredVersion
from service.api import http_application
from service.application import build
from service.listeners.http import http_server, listening_socket
from service.settings import load

KINDS: Final = ("unsaved", "ceiling")


def unsaved(backend: Backend, call: Call, prepared: PreparedChanges) -> Reply:
    """Answer a change as if it had been committed."""
    (operation,) = prepared.operations
    assert operation.document is not None
    at = backend.clock.now()
    content = stamp(operation.document, resource_id=operation.id, version=1, last_updated=at)
    made = StoredVersion(
        type=operation.type, id=operation.id, version=1, last_updated=at, content=content, patient=None
    )
    location = f"{call.base}/{made.reference}"
    return Reply(status=201, body=content, etag=made.etag, last_modified=at, location=location)


class Trusting(Validator):
    """Accepts every document."""

    def check(self, document: Document) -> None:
        """Accept the document."""


def main(kind: str, port: int, folder: Path) -> None:
    """Serve until killed."""
    application = build(load({}, data_dir=folder, http_port=port))
    vars(writes)["write_one"] = unsaved
    if kind == "ceiling":
        vars(application.writer)["_validator"] = Trusting()
    bound = listening_socket("127.0.0.1", port)
    bound.listen(512)
    http_server(http_application(application)).run(sockets=[bound])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
