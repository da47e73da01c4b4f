"""What is installed: one distribution, seven packages with generic names, and everything that they read at run time."""

import importlib.metadata
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from kernel.errors import Category, Problem
from service import packages
from service.packages import PACKAGES, check_packages

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_packages_that_python_finds_are_ours() -> None:
    check_packages()


def test_another_distribution_with_one_of_our_package_names_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """``pip install inference`` is another project's distribution."""
    monkeypatch.setattr(packages, "packages_distributions", lambda: {"inference": ["rival", "ausculta"]})
    with pytest.raises(Problem, match="inference") as noticed:
        check_packages()
    assert noticed.value.category is Category.CONFLICT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_the_wheel_holds_the_seven_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


def test_the_wheel_holds_what_is_read_at_run_time(wheel: zipfile.ZipFile) -> None:
    read = {
        str(path.relative_to(REPOSITORY))
        for package in PACKAGES
        for path in (REPOSITORY / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert read <= set(wheel.namelist())


def test_torch_has_the_pinned_version_and_torchvision_is_absent() -> None:
    assert importlib.metadata.version("torch").startswith("2.13.0")
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("torchvision")
