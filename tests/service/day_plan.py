"""A day of a hospital: who is measured when, and what reaches the server of it, when and in which form.

Four wards have monitors with their own habits of time. Sets of vital signs come by HL7 v2, and a second thermometer by
FHIR. Some are sent as preliminary first, corrected, sent twice, sent late or after their correction, or hold a value
that is no number. The plan is drawn from a seed.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from dicom_node.synthesise import ChestXRay

from .day_oracle import Known

START = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)
"""Minute 0; the hospital's clock of the tests begins here."""
ZONE = ZoneInfo("Europe/Berlin")
DAY = 24 * 60
SETS = 6
_LOINC = {
    "respirations": ("9279-1", "NM", "/min"),
    "spo2": ("59408-5", "NM", "%"),
    "oxygen_flow": ("3151-8", "NM", "L/min"),
    "systolic": ("8480-6", "NM", "mm[Hg]"),
    "pulse": ("8867-4", "NM", "/min"),
    "consciousness": ("67775-7", "ST", ""),
    "temperature": ("8310-5", "NM", "Cel"),
}


@dataclass(frozen=True, kw_only=True)
class Ward:
    """How the monitors of a ward write a time."""

    name: str
    #: Seconds by which their clock is ahead.
    ahead_s: int
    write: Callable[[datetime], str]
    #: MSH-18, and the encoding of the bytes.
    charset: str
    encoding: str


def _offset(at: datetime) -> str:
    return at.strftime("%Y%m%d%H%M%S+0000")


WARDS = (
    Ward(name="A", ahead_s=0, write=_offset, charset="UNICODE UTF-8", encoding="utf-8"),
    Ward(name="B", ahead_s=100, write=_offset, charset="8859/1", encoding="latin-1"),
    Ward(
        name="C",
        ahead_s=-60,
        write=lambda at: at.astimezone(ZONE).strftime("%Y%m%d%H%M%S"),
        charset="8859/2",
        encoding="iso8859_2",
    ),
    Ward(
        name="D",
        ahead_s=0,
        write=lambda at: at.strftime("%Y%m%d%H%M+0000"),
        charset="UNICODE UTF-8",
        encoding="utf-8",
    ),
)
_NAMES = ("Invented^Child", "Müller^Kind", "Dvořák^Dítě")
_FAMILIES = {"A": "Ångström", "B": "Müller", "C": "Dvořák", "D": "山田"}


@dataclass(frozen=True, kw_only=True)
class Patient:
    """Somebody in a bed."""

    mrn: str
    ward: Ward

    @property
    def pid(self) -> str:
        """PID of every message about this patient."""
        family = _FAMILIES[self.ward.name]
        return f"PID|1||{self.mrn}^^^HOSPITAL^MR||{family}^Person||19500101|F"


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """Something that reaches the server at a minute of the day."""

    minute: float
    patient: str
    #: A message of HL7 v2, or a path and the resource that is put there.
    hl7: bytes = b""
    #: Otherwise the message is refused with AR.
    supported: bool = True
    fhir: tuple[str, Mapping[str, object]] | None = None
    #: Images of one study, over one association.
    images: tuple[ChestXRay, ...] = ()
    #: The PACS sends everything that it got from the server back to it.
    routed_back: bool = False


@dataclass
class Plan:
    """All arrivals in order, and what is true of them."""

    patients: tuple[Patient, ...]
    #: Numbers of the children of whom one chest film is made, and who are known by their films alone.
    filmed: tuple[str, ...] = ()
    arrivals: list[Arrival] = field(default_factory=list)
    known: list[Known] = field(default_factory=list)

    def known_of(self) -> Mapping[str, list[Known]]:
        """Return what is true of each patient."""
        found: defaultdict[str, list[Known]] = defaultdict(list)
        for one in self.known:
            found[one.patient].append(one)
        return found


def plan_day(patients: int, films: int, seed: int) -> Plan:
    """Draw the day of as many patients, and as many films."""
    chance = random.Random(seed)
    plan = Plan(
        patients=tuple(Patient(mrn=f"{70_000 + number}", ward=WARDS[number % 4]) for number in range(patients)),
        filmed=tuple(f"{90_000 + number}" for number in range(films)),
    )
    for patient in plan.patients:
        begun = chance.uniform(5, 120)
        for number in range(SETS):
            measured = float(int(begun + number * 235 + chance.uniform(-10, 10)))
            _plan_set(plan, chance, patient, number, measured)
    for patient, other in zip(plan.patients[::20], plan.patients[1::20], strict=False):
        _plan_merge(plan, chance, patient, other)
    for number, mrn in enumerate(plan.filmed):
        _plan_film(plan, chance, mrn, number)
    plan.arrivals.sort(key=lambda one: one.minute)
    return plan


def admissions(plan: Plan) -> Iterator[bytes]:
    """Yield an ADT^A01 for each patient."""
    for patient in plan.patients:
        at = patient.ward.write(START)
        yield _encode(
            patient, [f"MSH|^~\\&|ADT|GENERAL|AUSCULTA|GENERAL|{at}||ADT^A01|A{patient.mrn}|P|2.5.1", f"EVN||{at}"]
        )


def _plan_set(plan: Plan, chance: random.Random, patient: Patient, number: int, measured: float) -> None:
    values: dict[str, str | None] = _vitals(chance)
    if chance.random() < 0.08:
        values["spo2"] = None
    late = chance.random() < 0.10
    arrives = measured + (chance.uniform(250, 330) if late else chance.uniform(0.5, 3))
    one = _Set(plan=plan, patient=patient, number=number, measured=measured, values=values)
    kind = chance.random()
    if kind < 0.15:  # a correction, and half of the times the original once more after it
        corrected = values | {"pulse": str(chance.randint(35, 150))}
        one.send(arrives, "F", version=1, changed=measured + 1)
        one.send(arrives + 20, "C", version=2, changed=measured + 15, values=corrected)
        if chance.random() < 0.5:
            one.send(arrives + 30, "F", version=1, changed=measured + 1)
    elif kind < 0.25:  # preliminary first, and sometimes overtaken by the final one
        early = values | {"pulse": str(chance.randint(35, 150))}
        first, second = (arrives, arrives + 5) if chance.random() < 0.5 else (arrives + 5, arrives)
        one.send(first, "P", version=0, changed=measured, values=early)
        one.send(second, "F", version=1, changed=measured + 1)
    elif kind < 0.40:  # the same bytes again
        message = one.send(arrives, "F", version=1, changed=measured + 1)
        plan.arrivals.append(replace(message, minute=arrives + chance.choice((0.1, 40))))
    else:
        one.send(arrives, "F", version=1, changed=measured + 1)
    if chance.random() < 0.2:
        _plan_thermometer(plan, chance, patient, number, measured + 30)


def _plan_merge(plan: Plan, chance: random.Random, patient: Patient, other: Patient) -> None:
    """Two numbers are merged: no such message is supported, so its sender gets an AR, and both stay as they are."""
    minute = chance.uniform(60, DAY)
    at = patient.ward.write(START + timedelta(minutes=minute))
    head = f"MSH|^~\\&|ADT|GENERAL|AUSCULTA|GENERAL|{at}||ADT^A40^ADT_A39|M{patient.mrn}|P|2.5.1"
    message = _encode(patient, [head, f"EVN||{at}", f"MRG|{other.mrn}^^^HOSPITAL^MR"])
    plan.arrivals.append(Arrival(minute=minute, patient=patient.mrn, hl7=message, supported=False))


def _plan_film(plan: Plan, chance: random.Random, mrn: str, number: int) -> None:
    """A film, a late lateral view of the same study, the film once more, and what the PACS sends back."""
    taken = chance.uniform(5, DAY - 120)
    frontal = ChestXRay(
        PatientID=mrn,
        IssuerOfPatientID="HOSPITAL",
        PatientName=_NAMES[number % len(_NAMES)],
        PatientBirthDate="20230101",
        rows=64,
        columns=64,
        consolidation=number % 2 == 0,
        seed=number + 1,
    )
    for after, images in ((0, (frontal,)), (12, (replace(frontal, view="LL", instance=2),)), (25, (frontal,))):
        plan.arrivals.append(Arrival(minute=taken + after, patient=mrn, images=images))
    plan.arrivals.append(Arrival(minute=taken + 40, patient=mrn, routed_back=True))


def _plan_thermometer(plan: Plan, chance: random.Random, patient: Patient, number: int, measured: float) -> None:
    """A temperature by FHIR, and sometimes its correction."""
    path = f"Observation/t-{patient.mrn}-{number}"
    for version, status in enumerate(("final", "corrected") if chance.random() < 0.3 else ("final",)):
        value, arrives = f"{chance.uniform(34.5, 40):.1f}", measured + 1 + version * 12
        resource = {
            "resourceType": "Observation",
            "id": path.partition("/")[2],
            "status": status,
            "code": {"coding": [{"system": "http://loinc.org", "code": "8310-5"}]},
            "subject": {"identifier": {"system": "urn:ausculta:authority:HOSPITAL", "value": patient.mrn}},
            "effectiveDateTime": (START + timedelta(minutes=measured)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "valueQuantity": {
                "value": float(value),
                "unit": "Cel",
                "system": "http://unitsofmeasure.org",
                "code": "Cel",
            },
        }
        plan.arrivals.append(Arrival(minute=arrives, patient=patient.mrn, fhir=(path, resource)))
        plan.known.append(
            Known(
                patient=patient.mrn,
                parameter="temperature",
                measured=measured,
                version=version,
                arrived=arrives,
                value=value,
            )
        )


@dataclass
class _Set:
    """One set of vital signs of one patient, in whatever messages."""

    plan: Plan
    patient: Patient
    number: int
    measured: float
    values: dict[str, str | None]

    def send(
        self, minute: float, status: str, *, version: int, changed: float, values: dict[str, str | None] | None = None
    ) -> Arrival:
        """Plan a message, and note what it says."""
        ward, shown = self.patient.ward, values or self.values
        ahead = timedelta(seconds=ward.ahead_s)

        def write(at: float) -> str:
            return ward.write(START + timedelta(minutes=at) + ahead)

        order = f"S{self.number}-{self.patient.mrn}^WARD"
        control = f"{self.patient.mrn}-{len(self.plan.arrivals)}"
        lines = [
            f"MSH|^~\\&|MONITOR{ward.name}|GENERAL|AUSCULTA|GENERAL|{write(minute)}||ORU^R01|{control}|P|2.5.1",
            f"OBR|1||{order}|VITALS^^L|||{write(self.measured)}|||||||||||||||{write(changed)}|||{status}",
        ]
        for number, (name, value) in enumerate(shown.items(), start=1):
            code, kind, unit = _LOINC[name]
            stated = (kind, value) if value is not None else ("SN", "<^85")
            lines.append(
                f"OBX|{number}|{stated[0]}|{code}^^LN||{stated[1]}|{unit}^^UCUM|||||{status}|||{write(self.measured)}"
            )
        arrival = Arrival(minute=minute, patient=self.patient.mrn, hl7=_encode(self.patient, lines))
        self.plan.arrivals.append(arrival)
        self.plan.known += [
            Known(
                patient=self.patient.mrn,
                parameter=name,
                measured=self.measured,
                version=version,
                arrived=minute,
                value=value,
            )
            for name, value in shown.items()
        ]
        return arrival


def _encode(patient: Patient, lines: list[str]) -> bytes:
    header, *others = lines
    segments = [f"{header}||||||{patient.ward.charset}", patient.pid, *others]
    return ("\r".join(segments) + "\r").encode(patient.ward.encoding)


def _vitals(chance: random.Random) -> dict[str, str | None]:
    return {
        "respirations": str(chance.randint(7, 30)),
        "spo2": str(chance.randint(86, 100)),
        "oxygen_flow": chance.choice(("0", "0", "2", "4.5")),
        "systolic": str(chance.randint(80, 230)),
        "pulse": str(chance.randint(35, 150)),
        "consciousness": chance.choice(("Alert", "Alert", "Alert", "Voice", "Pain")),
        "temperature": f"{chance.uniform(34.5, 40):.1f}",
    }
