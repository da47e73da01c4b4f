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
        warnings.simplefilter("ignore")  # what Flower's own dependencies are warned of is not ours to mend
        import flwr.serverapp.strategy  # noqa: F401


def pytest_report_header() -> str | None:
    """Say why these tests are not there, when they are not."""
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
    """A machine without a network, and with a home folder one can look into."""
    import socket

    def refuse(*_: object) -> None:
        raise AssertionError("nothing here may open a connection")

    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("HOME", str(home))
    return home
