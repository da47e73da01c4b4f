"""An empty application, and one with results."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from kernel.tables import results
from kernel.testing import FakeClock
from service.application import Application
from service.settings import HostPort

from .examples import (
    VITALS,
    Browser,
    Examples,
    bring_x_ray,
    browser_of,
    new_application,
    observe,
    patient,
    result_of,
    shut,
    work,
)


@pytest.fixture
def application(tmp_path: Path, clock: FakeClock) -> Iterator[Application]:
    """An empty application."""
    built = new_application(tmp_path / "data", clock)
    yield built
    shut(built)


@pytest.fixture
def browser(application: Application) -> Browser:
    return browser_of(application)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Examples]:
    """A NEWS2, a refusal and an X-ray; the EHR and the engine cannot be reached, so that deliveries wait."""
    clock = FakeClock()
    away = HostPort(host="127.0.0.1", port=9)
    application = new_application(
        tmp_path_factory.mktemp("application"), clock, ehr_url="http://127.0.0.1:9/fhir", interface_engine=away
    )
    ill, unknown = patient(application, "p-ill"), patient(application, "p-unknown")
    for vital in VITALS:
        observe(application, ill, *vital)
    observe(application, unknown, *VITALS[0])
    bring_x_ray(application, clock)
    work(application)
    with application.database.read() as connection:
        x_ray = connection.execute(select(results).where(results.c.model == "cxr-pneumonia")).one()
    yield Examples(
        application=application,
        browser=browser_of(application),
        news2=result_of(application, ill).id,
        refused=result_of(application, unknown).id,
        x_ray=x_ray.id,
    )
    shut(application)
