"""Each command that opens stored data, or starts a process on them, asks the authorizer before it does anything."""

import getpass
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import pytest
import typer.main

from kernel.errors import Category, Problem
from privacy.authorize import Request
from privacy.principal import Principal
from service.cli import app
from service.commands import command_context

ASKED: dict[str, tuple[str, Sequence[str]]] = {
    "serve": ("operate", ()),
    "worker": ("operate", ()),
    "migrate": ("view", ()),
    "audit export": ("view", ()),
    "audit verify": ("view", ()),
    "deliveries dismiss": ("view", ("d", "--reason", "r")),
    "deliveries list": ("view", ()),
    "deliveries park": ("view", ("d", "--reason", "r")),
    "deliveries replay": ("view", ("d",)),
    "deliveries show": ("view", ("d",)),
    "federated simulate": ("view", (".",)),
    "identity accept": ("view", ("h", "--reason", "r")),
    "identity list": ("view", ()),
    "identity reject": ("view", ("h", "--reason", "r")),
    "identity show": ("view", ("h",)),
    "jobs list": ("view", ()),
    "jobs parked": ("view", ()),
    "jobs replay": ("view", ("j",)),
    "messages dismiss": ("view", ("m", "--reason", "r")),
    "messages list": ("view", ()),
    "messages show": ("view", ("m",)),
    "models allow-code": ("view", (".", "--reason", "r")),
    "models allowed-code": ("view", ()),
    "models withdraw-code": ("view", ("m", "--reason", "r")),
    "models activate": ("view", ("news2",)),
    "models add": ("view", (".",)),
    "models list": ("view", ()),
    "models resume": ("view", ("news2",)),
    "models retire": ("view", ("news2",)),
    "models rollback": ("view", ("news2",)),
    "models show": ("view", ("news2",)),
    "models stop": ("view", ("news2",)),
    "models verify": ("view", ("news2",)),
    "profiles add": ("view", (".",)),
    "profiles list": ("view", ()),
    "results ask-again": ("view", ("r",)),
    "subscriptions list": ("view", ()),
    "subscriptions replay": ("view", ("s",)),
    "subscriptions stop": ("view", ("s", "--reason", "r")),
}
"""Command -> the interaction that the authorizer decides on first, and words that the command needs."""

NOT_ASKED = {"demo", "ehr check", "models new", "models table", "models train", "send dicom", "send fhir", "send hl7"}
"""Commands that touch nothing of this server: the peer decides, or there is a temporary folder only."""


class Refusing:
    """An authorizer that allows nothing, and remembers what was requested and by whom."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, str, str]] = []

    def require(self, principal: Principal, request: Request) -> None:
        self.requests.append((request.interaction.value, request.target, principal.client, principal.user))
        raise Problem(Category.FORBIDDEN, "not for you")


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Refusing:
    authorizer = Refusing()
    monkeypatch.setattr(command_context, "build_authorizer", lambda: authorizer)
    monkeypatch.setattr(command_context, "configure_logging", lambda **_: None)
    return authorizer


@pytest.fixture
def occupied() -> Iterator[int]:
    """A port that cannot be listened on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen()
        yield bound.getsockname()[1]


@pytest.fixture
def unusable(occupied: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that a command cannot begin to work with: the HTTP port is taken, the data folder is within a file."""
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("AUSCULTA_DATA_DIR", str(file / "ausculta"))
    monkeypatch.setenv("AUSCULTA_HTTP_PORT", str(occupied))


@pytest.fixture
def ausculta(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run a command in this process and return its exit code."""

    def run(*words: str) -> int:
        from service.cli import main

        monkeypatch.setattr(sys, "argv", ["ausculta", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    return run


def commands(command: Any, name: str = "") -> Iterator[str]:
    """Give the names of all commands, with those of their groups."""
    if not isinstance(command, click.Group) and not hasattr(command, "commands"):
        yield name
        return
    for part, inner in command.commands.items():
        yield from commands(inner, f"{name} {part}".strip())


def test_each_command_is_in_one_of_the_two_lists() -> None:
    assert set(commands(typer.main.get_command(app))) == ASKED.keys() | NOT_ASKED
    assert not ASKED.keys() & NOT_ASKED


@pytest.mark.parametrize("command", ASKED)
@pytest.mark.usefixtures("unusable")
def test_a_command_that_is_not_allowed_opens_nothing(
    command: str, refusing: Refusing, ausculta: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    interaction, words = ASKED[command]
    assert ausculta(*command.split(), *words) == 2
    assert capsys.readouterr().err == "ausculta: not for you\n"
    assert refusing.requests == [(interaction, command, "command line", getpass.getuser())]


def test_a_command_that_sends_files_to_a_peer_leaves_the_decision_to_the_peer(
    refusing: Refusing, occupied: int, ausculta: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.json").write_text("{}")
    assert ausculta("send", "fhir", str(tmp_path), "--url", f"http://127.0.0.1:{occupied}") == 2
    assert capsys.readouterr().err == "ausculta: text.json is not a FHIR resource\n"
    assert refusing.requests == []
