"""Which image of a study the chest model reads, or why none."""

import pytest

from dicom_node.study import Instance, Series, Study, describe
from dicom_node.synthesise import ChestXRay, chest_x_ray
from dicom_node.volume import NoImage, select_image


def study(*wanted: dict[str, object]) -> Study:
    files = [chest_x_ray(ChestXRay(rows=16, columns=16, instance=n, **w)) for n, w in enumerate(wanted)]
    return describe((f"address-{n}", content) for n, content in enumerate(files))


def chosen(selected: Instance | NoImage) -> str:
    assert isinstance(selected, Instance)
    return selected.blob


def test_pa_is_preferred_to_ap() -> None:
    assert chosen(select_image(study({"view": "AP"}, {"view": "PA"}))) == "address-1"


def test_dx_is_preferred_to_cr() -> None:
    assert chosen(select_image(study({"modality": "CR"}, {"modality": "DX"}))) == "address-1"


def test_an_unstated_view_is_taken_when_there_is_no_better() -> None:
    assert chosen(select_image(study({"view": "LATERAL"}, {"view": ""}))) == "address-1"


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"modality": "CT"}, "no projection radiograph"),
        ({"view": "LATERAL"}, "no frontal view"),
        ({"view": "LL"}, "no frontal view"),
    ],
)
def test_a_study_without_a_frontal_radiograph_says_why(wanted: dict[str, object], reason: str) -> None:
    selected = select_image(study(wanted))
    assert isinstance(selected, NoImage)
    assert reason in selected.reason


@pytest.mark.parametrize(("body_part", "is_chosen"), [("CHEST", True), ("", True), ("KNEE", False)])
def test_the_body_part_decides(body_part: str, is_chosen: bool) -> None:
    (series,) = study({}).series
    moved = Series(**{**vars(series), "BodyPartExamined": body_part})
    selected = select_image(Study(**{**vars(study({})), "series": (moved,)}))
    assert isinstance(selected, Instance) is is_chosen


def test_the_order_of_arrival_does_not_matter() -> None:
    files = [(str(n), chest_x_ray(ChestXRay(rows=16, columns=16, instance=n))) for n in range(3)]
    assert select_image(describe(files)) == select_image(describe(reversed(files)))
