"""Names in every character set of PS3.3 section C.12.1.1.2 reach every destination, and so do malformed headers."""

from collections import Counter
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.valuerep import PersonName

from dicom_node.scu import send as c_store
from dicom_node.synthesise import ChestXRay, chest_x_ray

from .hospital import Hospital

CHEST = ChestXRay(PatientID="4711", IssuerOfPatientID="HOSPITAL", rows=64, columns=64)
JAPANESE = "Yamada^Tarou=山田^太郎=やまだ^たろう"
KANA = "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"
KOREAN = "Hong^Gildong=洪^吉洞=홍^길동"


def image(request: ChestXRay, **attributes: Any) -> bytes:
    """Return an image with other attributes than the synthetic one."""
    dataset = dcmread(BytesIO(chest_x_ray(request)))
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return as_file(dataset)


def as_file(dataset: Dataset) -> bytes:
    stream = BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


SETS = [
    ([""], "Doe^Jane"),
    (["ISO 2022 IR 6"], "Doe^Jane"),
    (["ISO_IR 100"], "Buc^Jérôme"),
    (["ISO_IR 101"], "Nowák^Zoë"),
    (["ISO_IR 109"], "Ġorġ^Żeppi"),
    (["ISO_IR 110"], "Bērziņš^Jānis"),
    (["ISO_IR 144"], "Люксембург"),
    (["ISO_IR 127"], "قباني^لنزار"),
    (["ISO_IR 126"], "Διονυσιος"),
    (["ISO_IR 138"], "שרון^דבורה"),
    (["ISO_IR 148"], "Çavuşoğlu^Şule"),
    (["ISO_IR 203"], "Cœur^Jérôme"),
    (["ISO_IR 13"], "ﾔﾏﾀﾞ^ﾀﾛｳ"),
    (["ISO_IR 166"], "สมชาย^ใจดี"),
    (["ISO_IR 192"], "Wang^XiaoDong=王^小東"),
    (["GB18030"], "Wang^XiaoDong=王^小东"),
    (["GBK"], "Wang^XiaoDong=王^小东"),
    (["ISO 2022 IR 100"], "Buc^Jérôme"),
    (["ISO 2022 IR 6", "ISO 2022 IR 100"], "Äneas^Rüdiger"),
    (["", "ISO 2022 IR 87"], JAPANESE),
    (["ISO 2022 IR 13", "ISO 2022 IR 87"], KANA),
    (["", "ISO 2022 IR 87", "ISO 2022 IR 159"], JAPANESE),
    (["", "ISO 2022 IR 149"], KOREAN),
    (["", "ISO 2022 IR 100", "ISO 2022 IR 144"], "Jérôme^Люксембург"),
    (["ISO 2022 IR 6", "ISO 2022 IR 100", "ISO 2022 IR 126", "ISO 2022 IR 144"], "Διονυσιος^Люксембург"),
]
CHINESE = b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab"
"""PS3.5 annex K: ISO-IR 58."""


def numbered(number: int, **attributes: Any) -> bytes:
    request = replace(CHEST, PatientID=str(number), AccessionNumber=f"A-{number}")
    return image(request, **attributes)


def test_a_name_in_any_character_set_reaches_every_destination(hospital: Hospital) -> None:
    sent = [
        numbered(number, SpecificCharacterSet=sets, PatientName=name) for number, (sets, name) in enumerate(SETS, 1)
    ]
    sent.append(
        numbered(
            len(SETS) + 1,
            SpecificCharacterSet=["", "ISO 2022 IR 58"],
            PatientName=PersonName(CHINESE, ["iso8859", "iso_ir_58"]),
        )
    )
    names = {str(number): name for number, (_, name) in enumerate(SETS, 1)}
    names[str(len(SETS) + 1)] = "Zhang^XiaoDong=张^小东"
    c_store(sent, hospital.peer)
    hospital.rest()

    assert [row.kind for row in hospital.results()] == ["prediction"] * len(names)
    assert hospital.parked() == []
    objects = [hospital.pacs.dataset(uid) for uid in hospital.pacs.arrivals]
    assert len(objects) == 2 * len(names)
    for dataset in objects:
        assert (dataset.SpecificCharacterSet, str(dataset.PatientName)) == ("ISO_IR 192", names[dataset.PatientID])
    assert len(hospital.engine.received()) == len(names)
    families = {one["identifier"][0]["value"]: one["name"][0]["family"] for one in hospital.all("Patient?_count=50")}
    assert families == {number: name.split("=")[0].partition("^")[0] for number, name in names.items()}


BROKEN: list[dict[str, Any]] = [
    {"PatientBirthDate": "1950"},
    {"PatientBirthDate": "01.01.1950"},
    {"PatientSex": "X"},
    {"StudyDate": "2026", "StudyTime": "25:99"},
    {"SpecificCharacterSet": "ISO_IR 999"},
    {"SpecificCharacterSet": ["ISO 2022 IR 6", "NO SUCH SET"]},
    {"Manufacturer": "M" * 80, "InstitutionName": "I" * 80, "ManufacturerModelName": "N" * 80},
    {"PatientName": "no\\such^name"},
    {"PatientAge": "old"},
    {"DeviceSerialNumber": ["1", "2"], "SoftwareVersions": ["V" * 80, "2"]},
    {"DateOfLastCalibration": "never", "TimeOfLastCalibration": "never"},
    {"SOPClassUID": "1.3.12.2.1107.5.9.1"},
]


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_a_header_that_breaks_its_rules_silences_nobody(hospital: Hospital) -> None:
    sent = [numbered(number, **attributes) for number, attributes in enumerate(BROKEN)]
    heavy = image(replace(CHEST, PatientID="heavy"), PatientWeight="70.5").replace(b"70.5", b"lots")
    unreadable = image(replace(CHEST, PatientID="bytes"), SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Zoë")
    sent += [heavy, unreadable.replace(b"ISO_IR 100", b"ISO_IR 192")]
    c_store(sent, hospital.peer)
    hospital.rest()
    kinds = Counter(row.kind for row in hospital.results())
    # Two birth dates that cannot be read, and a storage class that the model does not read.
    assert kinds == {"prediction": len(sent) - 3, "declined": 3}
    assert len(hospital.pacs.arrivals) == 2 * kinds["prediction"] + kinds["declined"]
    assert len(hospital.engine.received()) == len(sent)
    assert hospital.parked() == []


@pytest.mark.parametrize("declared", [None, "", "ISO_IR 6"])
def test_utf_8_that_is_not_declared_is_read_as_utf_8(hospital: Hospital, declared: str | None) -> None:
    dataset = dcmread(BytesIO(chest_x_ray(replace(CHEST, PatientName="Doe^Jane----"))))
    if declared is None:
        del dataset.SpecificCharacterSet
    else:
        dataset.SpecificCharacterSet = declared
    c_store([as_file(dataset).replace(b"Doe^Jane----", "Çavuş^Zoë".encode())], hospital.peer)
    hospital.rest()
    named_everywhere(hospital, "Çavuş", "Zoë")


def test_bytes_that_are_no_utf_8_and_not_declared_stay_latin_1(hospital: Hospital) -> None:
    dataset = dcmread(BytesIO(chest_x_ray(replace(CHEST, PatientName="Buc^Jer-me"))))
    del dataset.SpecificCharacterSet
    c_store([as_file(dataset).replace(b"Buc^Jer-me", "Buc^Jérôme".encode("latin-1"))], hospital.peer)
    hospital.rest()
    named_everywhere(hospital, "Buc", "Jérôme")


def test_a_backslash_in_a_name_is_a_space(hospital: Hospital) -> None:
    c_store([chest_x_ray(replace(CHEST, PatientName="Smith^J\\Ohn"))], hospital.peer)
    hospital.rest()
    named_everywhere(hospital, "Smith", "J Ohn")


def named_everywhere(hospital: Hospital, family: str, given: str) -> None:
    (patient,) = hospital.all("Patient")
    assert patient["name"] == [{"family": family, "given": given.split()}]
    pid = hospital.engine.received()[-1].first("PID")
    assert pid is not None
    assert (pid.get(5), pid.get(5, component=2)) == (family, given.split(maxsplit=1)[0])
    for uid in hospital.pacs.arrivals:
        assert str(hospital.pacs.dataset(uid).PatientName) == f"{family}^{given}"
