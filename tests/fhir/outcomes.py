"""Outcomes of two models, available and not available."""

from datetime import UTC, datetime
from decimal import Decimal

from fhir_adapter.results import ExpectedOutput, InstanceSummary, ResultContext, SeriesSummary, StudySummary
from inference.contract import InputUsed, ModelIdentity, NotAvailable, Output, Prediction, Subject

AT = datetime(2026, 1, 15, 12, tzinfo=UTC)
SNOMED = "http://snomed.info/sct"

NEWS2 = ModelIdentity(
    name="news2",
    version="1.0.0",
    digest="d" * 64,
    title="National Early Warning Score 2",
    intended_use="Detecting deterioration.",
    owner="Ausculta project",
    demonstration=False,
    card="# NEWS2\n",
    status="active",
)
CXR = ModelIdentity(
    name="cxr-pneumonia",
    version="1.0.0",
    digest="e" * 64,
    title="Pneumonia on a chest radiograph",
    intended_use="Demonstration.",
    owner="Ausculta project",
    demonstration=True,
    card="# CXR\n",
    status="active",
)
SUBJECT = Subject(reference="Patient/p1", birth_date=None, sex="female", identifier=("urn:oid:1.2.3", "MRN&1,2|3"))
USED = InputUsed(name="pulse", value=Decimal(72), unit="/min", effective=AT, source="Observation/o1/_history/1")
IMAGE = "urn:oid:1.2.3.4.1.1#abc"

SCORE = Output(
    name="total",
    system=SNOMED,
    code="1104051000000101",
    display="NEWS2 total score",
    kind="score",
    value=7.0,
    unit="{score}",
    band="high",
    text="AI-generated, not reviewed by a person. NEWS2 7 of 20.",
    future=True,
)
FINDING = Output(
    name="pneumonia",
    system=SNOMED,
    code="233604007",
    display="Pneumonia",
    kind="probability",
    value=0.83121,
    unit=None,
    band="positive",
    text="AI-generated, not reviewed by a person. Pneumonia: probability 0.83 (positive).",
    future=False,
)
STUDY = StudySummary(
    StudyInstanceUID="1.2.3.4",
    series=(
        SeriesSummary(
            SeriesInstanceUID="1.2.3.4.1",
            modality="DX",
            body_part="CHEST",
            instances=(InstanceSummary(SOPInstanceUID="1.2.3.4.1.1", SOPClassUID="1.2.840.10008.5.1.4.1.1.1.1"),),
        ),
    ),
    started=AT,
    description="Chest PA",
    accession="A1",
)

RISK = Prediction(model=NEWS2, subject=SUBJECT, outputs=(SCORE,), inputs=(USED,), input_versions=(USED.source,), at=AT)
NO_RISK = NotAvailable(
    model=NEWS2,
    subject=SUBJECT,
    kind="declined",
    reason="missing oxygen saturation",
    missing=("oxygen_saturation",),
    inputs=(USED,),
    input_versions=(USED.source,),
    at=AT,
)
READING = Prediction(model=CXR, subject=SUBJECT, outputs=(FINDING,), inputs=(), input_versions=(IMAGE,), at=AT)
NO_READING = NotAvailable(
    model=CXR,
    subject=SUBJECT,
    kind="failed",
    reason="the model failed",
    missing=(),
    inputs=(),
    input_versions=(IMAGE,),
    at=AT,
)

PLAIN = ResultContext(
    now=AT,
    software_version="1.2.3",
    encounter="Encounter/e1",
    expected=(ExpectedOutput(system=SCORE.system, code=SCORE.code, display=SCORE.display, future=True),),
)
IMAGING = ResultContext(
    now=AT,
    software_version="1.2.3",
    study=STUDY,
    expected=(ExpectedOutput(system=FINDING.system, code=FINDING.code, display=FINDING.display, future=False),),
)
CASES = {
    "risk": (RISK, PLAIN),
    "no risk": (NO_RISK, PLAIN),
    "reading": (READING, IMAGING),
    "no reading": (NO_READING, IMAGING),
}
