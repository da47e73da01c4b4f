"""An empty house, and one in which a morning's work was done."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from kernel.tables import results
from kernel.testing import FakeClock
from service.settings import HostPort
from service.wiring import House

from .furniture import (
    VITALS,
    Browser,
    Furnished,
    bring_x_ray,
    browser_of,
    new_house,
    observe,
    patient,
    result_of,
    shut,
    work,
)


@pytest.fixture
def house(tmp_path: Path, clock: FakeClock) -> Iterator[House]:
    """An empty house."""
    built = new_house(tmp_path / "data", clock)
    yield built
    shut(built)


@pytest.fixture
def browser(house: House) -> Browser:
    return browser_of(house)


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Furnished]:
    """A NEWS2, a refusal and an X-ray; the EHR and the engine are away, so that deliveries wait."""
    clock = FakeClock()
    away = HostPort(host="127.0.0.1", port=9)
    house = new_house(tmp_path_factory.mktemp("house"), clock, ehr_url="http://127.0.0.1:9/fhir", engine=away)
    ill, unknown = patient(house, "p-ill"), patient(house, "p-unknown")
    for vital in VITALS:
        observe(house, ill, *vital)
    observe(house, unknown, *VITALS[0])
    bring_x_ray(house, clock)
    work(house)
    with house.database.read() as connection:
        x_ray = connection.execute(select(results).where(results.c.model == "cxr-pneumonia")).one()
    yield Furnished(
        house=house,
        browser=browser_of(house),
        news2=result_of(house, ill).id,
        refused=result_of(house, unknown).id,
        x_ray=x_ray.id,
    )
    shut(house)
