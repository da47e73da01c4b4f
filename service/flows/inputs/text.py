"""Input of kind text: the document that made the model run, or the newest of the declared types."""

from fhir_adapter.documents import UnreadableDocument, newest_document, stored_document
from inference.contract import TextInput
from inference.manifest import InputSpec
from service.core import CoreServices
from service.flows.inputs.contract import InputRequest, NoInput


def read(core: CoreServices, request: InputRequest, spec: InputSpec) -> TextInput | NoInput:
    """Read one document of a patient.

    Parameters
    ----------
    core
        Where resources are stored.
    request
        For which patient and time; the document, where one made the model run.
    spec
        The declared input: the document types.
    """
    patient, types, at = request.subject.reference, spec.selection.document_types, request.at
    with core.database.read() as connection:
        if request.document is None:
            found = newest_document(connection, core.store, patient, types, at)
        else:
            found = stored_document(connection, core.store, request.document, patient, types, at)
    if found is None:
        of_type = f" of type {' or '.join(types)}" if types else ""
        return NoInput(reason=f"no document{of_type} is stored", missing=(spec.name,))
    if isinstance(found, UnreadableDocument):
        return NoInput(reason=found.reason, missing=(spec.name,), sources=(found.source,))
    return TextInput(
        subject=request.subject,
        text=found.text,
        document_type=found.document_type,
        language=found.language,
        sources=(found.source,),
        authored_at=found.authored_at,
        at=at,
    )
