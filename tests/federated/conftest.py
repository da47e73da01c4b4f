"""Flower, the four hospitals' data, and a machine without a network."""

import importlib.util
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

collect_ignore_glob = []
if importlib.util.find_spec("flwr") is None:
    collect_ignore_glob.append("test_*.py")
else:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Flower's own dependencies are warned of is not in our control
        import flwr.serverapp.strategy  # noqa: F401


def pytest_report_header() -> str | None:
    """Report why these tests are skipped."""
    return (
        "federated: Flower is not installed (extra federated), its tests are left out" if collect_ignore_glob else None
    )


@pytest.fixture(scope="session")
def data(shared: Path) -> Path:
    folder = shared / "data" / "uci-heart"
    if not folder.is_dir():
        pytest.skip("the UCI heart disease data are not here")
    return folder


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A machine without a network, and with an inspectable home folder."""
    import socket

    def refuse(*_: object) -> None:
        raise AssertionError("nothing here may open a connection")

    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("HOME", str(home))
    return home
