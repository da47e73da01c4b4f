"""The selection of an image or series of a study by the rules of a manifest, or the reason why none fits."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from dicom_node.selection import NothingFits, Selected, SelectedImage, SelectedVolume, chosen_of_several, select_input
from dicom_node.study import Instance, Series, Study, describe
from dicom_node.synthesise import ChestXRay, chest_x_ray
from inference.folder import bundled_folder, open_folder
from inference.manifest import InputSpec, Selection

CHEST = open_folder(bundled_folder("cxr-pneumonia")).manifest.input


def select_image(study: Study) -> Selected:
    return select_input(study, CHEST)


def study(*wanted: dict[str, object]) -> Study:
    files = [chest_x_ray(ChestXRay(rows=16, columns=16, instance=n, **w)) for n, w in enumerate(wanted)]
    return describe((f"address-{n}", content) for n, content in enumerate(files))


def chosen(selected: Selected) -> str:
    assert isinstance(selected, SelectedImage)
    return selected.instance.blob


def test_pa_is_preferred_to_ap() -> None:
    assert chosen(select_image(study({"view": "AP"}, {"view": "PA"}))) == "address-1"


def test_dx_is_preferred_to_cr() -> None:
    assert chosen(select_image(study({"modality": "CR"}, {"modality": "DX"}))) == "address-1"


def test_an_unstated_view_is_selected_when_no_stated_one_fits() -> None:
    assert chosen(select_image(study({"view": "LATERAL"}, {"view": ""}))) == "address-1"


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"modality": "CT"}, "no image of modality DX or CR"),
        ({"view": "LATERAL"}, "no image with view PA or AP"),
        ({"view": "LL"}, "no image with view PA or AP"),
    ],
)
def test_a_study_without_a_frontal_radiograph_is_declined_with_the_reason(
    wanted: dict[str, object], reason: str
) -> None:
    selected = select_image(study(wanted))
    assert isinstance(selected, NothingFits)
    assert reason in selected.reason


def with_image(**changes: Any) -> Study:
    (series,) = study({}).series
    (image,) = series.instances
    return replace(study({}), series=(replace(series, instances=(replace(image, **changes),)),))


@pytest.mark.parametrize(
    ("body_part", "descriptions", "is_chosen"),
    [
        ("CHEST", (), True),
        ("CHEST", (("series description", "Knee"),), False),
        ("", (), False),
        ("", (("study description", "Thorax"),), True),
        ("KNEE", (("series description", "Chest"),), False),
    ],
)
def test_the_body_part_decides_and_no_description_outweighs_it(
    body_part: str, descriptions: tuple[tuple[str, str], ...], is_chosen: bool
) -> None:
    selected = select_image(with_image(BodyPartExamined=body_part, descriptions=descriptions))
    assert isinstance(selected, SelectedImage) is is_chosen


def test_a_model_that_does_not_require_a_body_part_reads_an_image_that_states_none() -> None:
    lenient = replace(CHEST, selection=replace(CHEST.selection, body_part_required=False))
    assert isinstance(select_input(with_image(BodyPartExamined="", descriptions=()), lenient), SelectedImage)


def test_a_model_that_reads_laterals_is_given_them() -> None:
    lateral = replace(CHEST, selection=replace(CHEST.selection, views=("LL", "PA")))
    turned = with_image(ViewPosition="", PatientOrientation=("A", "F"))
    assert isinstance(select_input(turned, lateral), SelectedImage)


def test_the_order_of_arrival_decides_only_where_nothing_else_differs() -> None:
    files = [(str(n), chest_x_ray(ChestXRay(rows=16, columns=16, instance=n))) for n in range(3)]
    for order in (files, files[::-1]):
        assert chosen(select_image(describe(order))) == "2"  # the highest InstanceNumber
    (series,) = describe(files).series
    same = tuple(replace(image, numbers=(1, 1), arrival=-place) for place, image in enumerate(series.instances))
    assert select_image(replace(describe(files), series=(replace(series, instances=same),))) == SelectedImage(
        instance=same[0], fitting=3
    )


def test_the_volume_that_was_acquired_last_is_taken_of_those_with_as_many_slices() -> None:
    first, last = stack("1", 3, 1.0), stack("2", 3, 1.0)
    at = datetime(2026, 1, 15, 12, tzinfo=UTC)
    first = replace(first, instances=tuple(replace(one, acquired_at=at) for one in first.instances))
    assert of_volumes(first, last) == SelectedVolume(series=first, fitting=2)
    assert (
        chosen_of_several(of_volumes(first, last)) == "2 series fit; the one acquired on 2026-01-15 at 12:00 was read"
    )


def test_a_derived_image_comes_after_an_original() -> None:
    (series,) = study({}, {"view": "AP"}).series
    pa, ap = series.instances
    derived = replace(pa, ImageType=("DERIVED", "PRIMARY"))
    held = replace(study({}), series=(replace(series, instances=(derived, ap)),))
    assert chosen(select_image(held)) == ap.blob


def stack(uid: str, count: int, thickness: float, description: str = "lung") -> Series:
    slices = tuple(
        Instance(
            SOPInstanceUID=f"{uid}.{n}",
            SOPClassUID="",
            blob=f"{uid}.{n}",
            ViewPosition="",
            ImageType=(),
            Rows=4,
            Columns=4,
            SliceThickness=thickness,
        )
        for n in range(count)
    )
    return Series(
        SeriesInstanceUID=uid, Modality="CT", SeriesDescription=description, BodyPartExamined="CHEST", instances=slices
    )


def of_volumes(*series: Series, **rules: Any) -> Selected:
    spec = InputSpec(name="ct", kind="volume", selection=Selection(modalities=("CT",), **rules))
    return select_input(replace(study({}), series=series), spec)


def test_the_volume_with_most_slices_is_taken() -> None:
    assert of_volumes(stack("1", 3, 1.0), stack("2", 5, 1.0)) == SelectedVolume(series=stack("2", 5, 1.0), fitting=2)


def test_a_volume_of_which_one_slice_shows_another_part_is_not_read_in_part() -> None:
    mixed = stack("1", 5, 1.0)
    knee = replace(mixed.instances[2], BodyPartExamined="KNEE")
    mixed = replace(mixed, instances=(*mixed.instances[:2], knee, *mixed.instances[3:]))
    rules: dict[str, Any] = {"body_parts": ("CHEST",)}
    assert of_volumes(mixed, stack("2", 3, 1.0), **rules) == SelectedVolume(series=stack("2", 3, 1.0))


def test_slice_thickness_and_description_decide() -> None:
    thin, thick, bone = stack("1", 3, 1.0), stack("2", 5, 5.0), stack("3", 9, 1.0, "bone")
    rules = {
        "slice_thickness_mm": (Decimal("0.5"), Decimal(2)),
        "series_description": re.compile("lung"),
    }
    assert of_volumes(thin, thick, bone, **rules) == SelectedVolume(series=thin)


def test_too_few_slices_are_no_volume() -> None:
    selected = of_volumes(stack("1", 3, 1.0), min_slices=10)
    assert selected == NothingFits(reason="the study holds no series of at least 10 slices")
