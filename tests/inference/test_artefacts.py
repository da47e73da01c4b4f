"""Artefacts: what a prediction holds of them, and what they are as files."""

from dataclasses import replace

import numpy as np
import pytest

from inference.artefacts import NPY, PNG, artefacts_fit, decode, encode
from inference.contract import Artefact
from inference.testing import heat_map, mask, output_of_each_kind

RNG = np.random.default_rng(1)
FLAT = mask(RNG.integers(0, 3, (30, 40), dtype=np.uint8))
DEEP = mask(RNG.integers(0, 3, (5, 30, 40), dtype=np.uint8))


@pytest.mark.parametrize(("artefact", "media_type"), [(FLAT, PNG), (DEEP, NPY)], ids=["2-D", "3-D"])
def test_a_mask_comes_back_exactly(artefact: Artefact, media_type: str) -> None:
    file = encode(artefact)
    assert file.media_type == media_type
    assert np.array_equal(decode(file.media_type, file.content), artefact.values)


def test_a_heat_map_comes_back_to_a_255th() -> None:
    heat = np.linspace(0, 1, 1200, dtype=np.float32).reshape(30, 40)
    file = encode(heat_map(heat))
    assert np.abs(decode(file.media_type, file.content) / 255 - heat).max() <= 0.5 / 255 + 1e-6


def test_a_sparse_mask_is_stored_small() -> None:
    empty = mask(np.zeros((50, 256, 256), dtype=np.uint8))
    assert len(encode(empty).content) < empty.values.size / 100


def test_equal_arrays_become_equal_bytes() -> None:
    assert encode(DEEP) == encode(mask(DEEP.values.copy()))


def test_another_media_type_is_refused() -> None:
    with pytest.raises(ValueError, match="media type"):
        decode("text/plain", b"")


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("heat-map", np.zeros((2, 3, 4), dtype=np.float32)),
        ("mask", np.zeros(3, dtype=np.uint8)),
        ("mask", np.zeros((2, 3), dtype=np.float32)),
    ],
)
def test_an_array_that_is_no_artefact_of_its_kind_is_refused(kind: str, values: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"a (mask|heat-map)"):
        Artefact(name="x", kind=kind, values=values, geometry="")


def test_a_mask_output_needs_the_artefact_that_it_names() -> None:
    output = output_of_each_kind()["mask"]
    assert artefacts_fit([output], [FLAT])
    assert not artefacts_fit([output], [])
    assert not artefacts_fit([output], [replace(FLAT, name="other")])
    assert not artefacts_fit([output], [replace(heat_map(np.zeros((2, 2))), name="lesion")])
    assert not artefacts_fit([], [FLAT, FLAT])
