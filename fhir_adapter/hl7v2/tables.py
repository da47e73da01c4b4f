"""Code maps of the HL7 v2-to-FHIR guide as data, with Ausculta's own entries where the guide has none.

Each table names the concept map of the guide that it is taken from; the guide has no target for an entry marked *open*.
Code systems are those of table 0396.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

TERMINOLOGY: Final = "http://terminology.hl7.org/CodeSystem/"

GENDER: Final[Mapping[str, str]] = MappingProxyType(
    {
        "F": "female",
        "M": "male",
        "O": "other",
        "U": "unknown",
        "A": "other",
        "N": "other",
        # open: the table's text in place of its code
        "FEMALE": "female",
        "MALE": "male",
        "OTHER": "other",
        "UNKNOWN": "unknown",
    }
)
"""PID-8, concept map AdministrativeSex."""

NAME_USE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "BAD": "old",
        "D": "usual",
        "L": "official",
        "M": "maiden",
        "MSK": "anonymous",
        "N": "nickname",
        "NAV": "temp",
        "R": "official",
        "TEMP": "temp",
    }
)
"""XPN.7, concept map NameType."""

ADDRESS_USE: Final[Mapping[str, str]] = MappingProxyType(
    {"BA": "old", "BI": "billing", "C": "temp", "B": "work", "H": "home", "O": "work"}
)
"""XAD.7, concept map AddressType[Use]."""

ADDRESS_TYPE: Final[Mapping[str, str]] = MappingProxyType({"M": "postal", "SH": "postal"})
"""XAD.7, concept map AddressType[Type]."""

TELECOM_USE: Final[Mapping[str, str]] = MappingProxyType({"PRN": "home", "WPN": "work", "PRS": "mobile"})
"""XTN.2, concept map TelecommunicationUseCode."""

TELECOM_SYSTEM: Final[Mapping[str, str]] = MappingProxyType(
    {
        "PH": "phone",
        "FX": "fax",
        "MD": "other",
        "CP": "phone",
        "SAT": "other",
        "BP": "pager",
        "Internet": "email",
        "X.400": "email",
        "TDD": "other",
        "TTY": "other",
    }
)
"""XTN.3, concept map TelecommunicationEquipmentType; its ``mobile`` for CP is a use, not a system."""

ENCOUNTER_CLASS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "E": ("EMER", "emergency"),
        "I": ("IMP", "inpatient encounter"),
        "O": ("AMB", "ambulatory"),
        "P": ("PRENC", "pre-admission"),
    }
)
"""PV1-2, concept map PatientClass[EncounterClass]: codes of v3-ActCode; the others stay codes of v2-0004."""

ENCOUNTER_STATUS: Final[Mapping[str, str]] = MappingProxyType({"P": "planned", "U": "unknown"})
"""PV1-2, concept map PatientClass[EncounterStatus]; every other class is ``in-progress``."""

OBSERVATION_STATUS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "A": "amended",
        "C": "corrected",
        "D": "entered-in-error",
        "F": "final",
        "P": "preliminary",
        "W": "entered-in-error",
        "X": "cancelled",
        # open:
        "B": "amended",
        "I": "registered",
        "N": "final",
        "O": "registered",
        "R": "preliminary",
        "S": "preliminary",
        "U": "final",
        "V": "final",
    }
)
"""OBX-11, concept map ObservationResultStatusCodesInterpretation."""

REPORT_STATUS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "C": "corrected",
        "F": "final",
        "I": "registered",
        "O": "registered",
        "P": "preliminary",
        "R": "partial",
        "S": "registered",
        "X": "cancelled",
        # open:
        "A": "partial",
        "M": "preliminary",
        "N": "registered",
        "Y": "unknown",
        "Z": "unknown",
    }
)
"""OBR-25, concept map ResultStatus[Non-Queries]."""

INTERPRETATIONS: Final[frozenset[str]] = frozenset(
    (
        "<",
        ">",
        "A",
        "AA",
        "B",
        "CAR",
        "D",
        "DET",
        "E",
        "EX",
        "EXP",
        "H",
        "HH",
        "HU",
        "I",
        "IE",
        "IND",
        "L",
        "LL",
        "LU",
        "N",
        "NCL",
        "ND",
        "NEG",
        "NR",
        "NS",
        "POS",
        "R",
        "RR",
        "S",
        "SDD",
        "SYN-R",
        "SYN-S",
        "U",
        "UNE",
        "VS",
        "W",
        "WR",
    )
)
"""OBX-8, concept map InterpretationCodes: codes that v3-ObservationInterpretation has too; the others stay v2-0078."""

CODE_SYSTEMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "LN": "http://loinc.org",
        "2.16.840.1.113883.6.1": "http://loinc.org",
        "SCT": "http://snomed.info/sct",
        "2.16.840.1.113883.6.96": "http://snomed.info/sct",
        "UCUM": "http://unitsofmeasure.org",
        "2.16.840.1.113883.6.8": "http://unitsofmeasure.org",
        "I10": "http://hl7.org/fhir/sid/icd-10",
        "I10C": "http://hl7.org/fhir/sid/icd-10-cm",
        "I9C": "http://hl7.org/fhir/sid/icd-9-cm",
        "CVX": "http://hl7.org/fhir/sid/cvx",
        "NDC": "http://hl7.org/fhir/sid/ndc",
        "RXNORM": "http://www.nlm.nih.gov/research/umls/rxnorm",
        "C4": "http://www.ama-assn.org/go/cpt",
        "CPT4": "http://www.ama-assn.org/go/cpt",
        "DCM": "http://dicom.nema.org/resources/ontology/DCM",
        "ATC": "http://www.whocc.no/atc",
        "ISO+": "http://unitsofmeasure.org/iso-plus",
    }
)
"""CWE.3, table 0396, and the object identifiers that some senders put in its place."""

UCUM: Final[Mapping[str, str]] = MappingProxyType(
    {
        # rates
        "/min": "/min",
        "1/min": "/min",
        "bpm": "/min",
        "beats/min": "/min",
        "breaths/min": "/min",
        "br/min": "/min",
        "rpm": "/min",
        "{beats}/min": "/min",
        "{breaths}/min": "/min",
        # pressure
        "mmhg": "mm[Hg]",
        "mm(hg)": "mm[Hg]",
        "mm[hg]": "mm[Hg]",
        "mm hg": "mm[Hg]",
        "kpa": "kPa",
        # temperature
        "c": "Cel",
        "cel": "Cel",
        "degc": "Cel",
        "deg c": "Cel",
        "°c": "Cel",
        "f": "[degF]",
        "degf": "[degF]",
        "deg f": "[degF]",
        "°f": "[degF]",
        "[degf]": "[degF]",
        # fractions, flow, size
        "%": "%",
        "l/min": "L/min",
        "lpm": "L/min",
        "ml/min": "mL/min",
        "kg": "kg",
        "cm": "cm",
        "m": "m",
        "kg/m2": "kg/m2",
        # laboratory
        "mmol/l": "mmol/L",
        "umol/l": "umol/L",
        "nmol/l": "nmol/L",
        "pmol/l": "pmol/L",
        "mg/dl": "mg/dL",
        "mg/l": "mg/L",
        "g/dl": "g/dL",
        "gm/dl": "g/dL",
        "g/l": "g/L",
        "ug/l": "ug/L",
        "ng/ml": "ng/mL",
        "ng/l": "ng/L",
        "pg/ml": "pg/mL",
        "u/l": "U/L",
        "iu/l": "[IU]/L",
        "meq/l": "meq/L",
        "10*9/l": "10*9/L",
        "10^9/l": "10*9/L",
        "x10^9/l": "10*9/L",
        "10e9/l": "10*9/L",
        "10*12/l": "10*12/L",
        "10^12/l": "10*12/L",
        "10*3/ul": "10*3/uL",
        "10^3/ul": "10*3/uL",
        "k/ul": "10*3/uL",
        "thou/ul": "10*3/uL",
        "10*6/ul": "10*6/uL",
        "fl": "fL",
        "pg": "pg",
        "sec": "s",
        "mmol/mol": "mmol/mol",
    }
)
"""Spellings of units in OBX-6 that are sent without naming UCUM, in lower case and with ``u`` for micro, to UCUM."""
