"""Stand-ins of an EHR, an interface engine and a PACS; the server sends to each of them over its real protocol.

The demonstration looks for results only here, because a result counts only when it was received.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dicom_node.testing import StandInPacs
from fhir_adapter.hl7v2.message import Message
from fhir_adapter.hl7v2.testing import StandInEngine
from fhir_adapter.testing import StandInEhr
from service.demo.story import PATIENTS, Place, fhir_patient

RESULT_SYSTEM: Final = "urn:ausculta:result"
_FHIR_TYPES: Final = ("RiskAssessment", "Observation", "DiagnosticReport")


@dataclass(frozen=True, kw_only=True)
class Document:
    """A resource, message or object that a stand-in has received."""

    place: Place
    #: A FHIR type, an HL7 message type, a DICOM modality.
    kind: str
    #: FHIR id, MSH-10 or SOPInstanceUID.
    identifier: str

    def __str__(self) -> str:
        joint = "/" if self.place is Place.EHR else " "
        return f"{self.kind}{joint}{self.identifier}"


@dataclass(frozen=True, kw_only=True)
class StandIns:
    """The three stand-ins."""

    ehr: StandInEhr
    engine: StandInEngine
    pacs: StandInPacs

    def documents(self, result: str, study: str) -> list[Document]:
        """Return the documents of one result that were received.

        Parameters
        ----------
        result
            The result's id.
        study
            StudyInstanceUID of its study; empty for a result without a study.
        """
        return [*self._at_the_ehr(result), *self._at_the_engine(result), *self._at_the_pacs(study)]

    def _at_the_ehr(self, result: str) -> Iterator[Document]:
        for kind in _FHIR_TYPES:
            for resource in self.ehr.received(kind):
                if _names(resource, result):
                    yield Document(place=Place.EHR, kind=kind, identifier=resource["id"])

    def _at_the_engine(self, result: str) -> Iterator[Document]:
        for message in self.engine.received():
            if _filler_number(message) == result:
                kind = f"{message.header.get(9, 1)}^{message.header.get(9, 2)}"
                yield Document(place=Place.ENGINE, kind=kind, identifier=message.header.get(10))

    def _at_the_pacs(self, study: str) -> Iterator[Document]:
        for uid in self.pacs.arrivals if study else ():
            dataset = self.pacs.dataset(uid)
            if study == dataset.StudyInstanceUID:
                yield Document(place=Place.PACS, kind=str(dataset.Modality), identifier=uid)


def _names(resource: dict[str, Any], result: str) -> bool:
    return any(it.get("system") == RESULT_SYSTEM and it.get("value") == result for it in resource.get("identifier", ()))


def _filler_number(message: Message) -> str:
    """Return OBR-3, which is the id of the result in an ORU^R01."""
    segment = message.first("OBR")
    return segment.get(3) if segment else ""


@contextmanager
def stand_ins(folder: Path) -> Iterator[StandIns]:
    """Start the three on free loopback ports; the EHR already holds the scenario's patients."""
    with ExitStack() as stack:
        ehr = stack.enter_context(StandInEhr(folder))
        for patient in PATIENTS:
            ehr.put(fhir_patient(patient) | {"id": f"patient-{patient.mrn}"})
        engine = StandInEngine()
        stack.callback(engine.close)
        pacs = StandInPacs().start()
        stack.callback(pacs.close)
        yield StandIns(ehr=ehr, engine=engine, pacs=pacs)
