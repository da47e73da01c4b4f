"""``docs/tutorial/bring-your-model.md``, read and typed as it stands.

The page is followed from its first block to its last:

- A block after "save this as `NAME`" is written to that file.
- A block of language ``sh`` is run by bash, in the folder that the block before it left. Home is a temporary folder.
- ``ausculta serve`` is the second terminal: it goes on until the end of the page.
- A block of language ``text`` is what the commands before it must have printed, in that order; ``…`` is anything.
  Where they are all ``curl``, they are run until they print it.
- An address in angle brackets is opened, and must be a page.

Nothing is put in place of what the page says but the ports: 8080 becomes that of the test's server.
"""

import html
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import pytest

from benchmarks.processes import free_ports

REPOSITORY: Final = Path(__file__).resolve().parents[2]
PAGE: Final = REPOSITORY / "docs" / "tutorial" / "bring-your-model.md"
EXAMPLE: Final = PAGE.with_suffix("")

_STEP: Final = re.compile(
    r"save this as `(?P<file>[\w./-]+)`:\n\n```\w+\n(?P<content>.*?)```"
    r"|```(?P<language>\w+)\n(?P<block>.*?)```"
    r"|<(?P<address>http://[^>]+)>",
    re.DOTALL | re.IGNORECASE,
)
_WORDS_A_MINUTE: Final = 200
_SECONDS_A_BLOCK: Final = 20
_PATIENCE_S: Final = 300
"""A loaded machine is slow; nobody waits so long."""


@dataclass
class Reader:
    """Somebody who follows the page."""

    home: Path
    where: Path = REPOSITORY
    said: str = ""
    block: str = ""
    pages: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ports = free_ports()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AUSCULTA_")}
        path = f"{Path(sys.executable).parent}:{inherited['PATH']}"
        self.environment = inherited | {"HOME": str(self.home), "PATH": path, "COLUMNS": "200"}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.ports.http}"

    def here(self, text: str) -> str:
        return text.replace("127.0.0.1:8080", f"127.0.0.1:{self.ports.http}")

    def run(self, block: str) -> None:
        self.block = block
        done = subprocess.run(
            ["/bin/bash", "-c", f'set -euo pipefail\n{self.here(block)}\npwd > "$HOME/where"'],
            cwd=self.where,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE_S,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        self.said = done.stdout
        self.where = Path((self.home / "where").read_text().strip())

    def check(self, wanted: str) -> None:
        lines = [".*?".join(re.escape(part) for part in line.split("…")) for line in wanted.splitlines()]
        pattern = re.compile(".*?".join(lines), re.DOTALL)
        again = all(line.startswith("curl ") for line in self.block.splitlines())
        until = time.monotonic() + _PATIENCE_S
        while again and pattern.search(self.said) is None and time.monotonic() < until:
            time.sleep(0.5)
            self.run(self.block)
        assert pattern.search(self.said), f"wanted:\n{wanted}\nsaid:\n{self.said}"

    @contextmanager
    def second_terminal(self) -> Iterator[None]:
        """Serve from the folder of the page, until the end."""
        ports = {"HTTP_PORT": self.ports.http, "MLLP_PORT": self.ports.mllp, "DICOM_PORT": self.ports.dicom}
        environment = self.environment | {f"AUSCULTA_{name}": str(port) for name, port in ports.items()}
        with (self.home / "server.log").open("wb") as log:
            server = subprocess.Popen(["ausculta", "serve"], cwd=self.where, env=environment, stdout=log, stderr=log)
            try:
                self._until_ready(server)
                yield
            finally:
                server.terminate()
                server.wait(60)

    def _until_ready(self, server: "subprocess.Popen[bytes]") -> None:
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until and server.poll() is None:
            try:
                if httpx.get(f"{self.address}/health/ready", timeout=5).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.1)
        raise AssertionError((self.home / "server.log").read_text()[-3000:])

    def open(self, address: str) -> str:
        answer = httpx.get(self.here(address), timeout=60)
        assert answer.status_code == 200, address
        return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())

    def follow(self, steps: Iterator[re.Match[str]]) -> None:
        for step in steps:
            if step["file"]:
                (self.where / step["file"]).write_text(step["content"])
            elif step["address"]:
                self.open(step["address"])
            elif step["block"] == "ausculta serve\n":
                with self.second_terminal():
                    self.follow(steps)
                    self.at_the_end()
            elif step["language"] == "sh":
                self.run(step["block"])
            else:
                assert step["language"] == "text", step[0]
                self.check(step["block"])

    def at_the_end(self) -> None:
        """Keep what a person sees after the last block."""
        found = httpx.get(f"{self.address}/fhir/RiskAssessment?_tag=urn:ausculta:model-status|shadow", timeout=60)
        self.shadow = [entry["resource"] for entry in found.json()["entry"]]
        self.active = [
            entry["resource"] for entry in httpx.get(f"{self.address}/fhir/RiskAssessment", timeout=60).json()["entry"]
        ]
        self.pages = {name: self.open(f"{self.address}/console{name}") for name in ("", "/models")}


@pytest.mark.timeout(1200)
def test_a_newcomer_follows_the_page_to_the_results(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("the page uses curl (Debian package: curl)")
    reader = Reader(tmp_path)
    reader.follow(_STEP.finditer(PAGE.read_text(encoding="utf-8")))

    said = {(one["subject"]["reference"], one["prediction"][0]["qualitativeRisk"]["text"]) for one in reader.active}
    assert said == {("Patient/ada", "high"), ("Patient/ben", "low")}
    said = {(one["subject"]["reference"], one["prediction"][0]["qualitativeRisk"]["text"]) for one in reader.shadow}
    assert said == {("Patient/ada", "high"), ("Patient/ben", "low")}
    overview = reader.pages[""]
    for model, status in (("ward-logistic", "active"), ("ward-logistic", "shadow"), ("ward-network", "shadow")):
        assert re.search(rf"Intensive care within a day: \d+(\.\d+)? % \(high\)\S* {model} 1\.0\.0 {status}", overview)
    assert "ward-logistic 1.0.0" in reader.pages["/models"]


def test_reading_and_typing_take_less_than_a_quarter_of_an_hour() -> None:
    """What the page says of its length is so; the minutes of the commands are measured, and stand beside it."""
    page = PAGE.read_text(encoding="utf-8")
    steps = list(_STEP.finditer(page))
    words = len(re.sub(r"```.*?```", "", page, flags=re.DOTALL).split())
    files = sum(step["file"] is not None for step in steps)
    blocks = sum(step["language"] == "sh" for step in steps)
    reading, typing = words / _WORDS_A_MINUTE, (files + blocks) * _SECONDS_A_BLOCK / 60
    assert f"| reading this page, 200 words a minute | {reading:.0f} |" in page
    assert f"| copying {files} files and {blocks} blocks of commands, 20 seconds each | {typing:.0f} |" in page
    (waiting,) = re.findall(r"\| waiting for the commands, on two cores \| (\d+) \|", page)
    assert reading + typing + int(waiting) < 15


def test_no_python_is_written_but_the_training_scripts() -> None:
    steps = list(_STEP.finditer(PAGE.read_text(encoding="utf-8")))
    assert [step["file"] for step in steps if step["file"] and step["file"].endswith(".py")] == [
        "train_sklearn.py",
        "train_torch.py",
    ]
    assert "python" not in {step["language"] for step in steps}


def test_the_example_is_what_its_script_makes(tmp_path: Path) -> None:
    import gzip

    subprocess.run([sys.executable, EXAMPLE / "make_example.py", tmp_path], check=True)
    made = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    kept = {name: (EXAMPLE / name).read_bytes() for name in made}
    packed = "patients.ndjson.gz"
    assert gzip.decompress(made.pop(packed)) == gzip.decompress(kept.pop(packed))
    assert made == kept
    assert len(made) == 3
