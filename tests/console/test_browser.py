"""The console in a real headless Chromium: what a person sees, and that no other server is contacted."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fhir_adapter.testing import LoopbackServer
from service.api import http_application

from .examples import Examples

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--window-size=1280,2000",
)
"""The browser's own requests are switched off, so that only those of the page are seen."""

Look = Callable[..., str]


@pytest.fixture
def served(examples: Examples) -> Iterator[str]:
    """The whole application on a free port of loopback."""
    with LoopbackServer(http_application(examples.application)) as server:
        yield server.url


@pytest.fixture
def look(tmp_path: Path) -> Look:
    """Open an address and return the page as the browser holds it."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (Debian package: chromium)")

    def open_page(url: str, *flags: str) -> str:
        profile = tmp_path / f"profile-{len(list(tmp_path.iterdir()))}"
        command = [CHROMIUM, *QUIET, f"--user-data-dir={profile}", *flags, url]
        run = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
        return run.stdout

    return open_page


def asked_by(page: str, net_log: Path) -> set[str]:
    """URLs of the requests that a page gave rise to, from the log of Chromium's network stack."""
    events = json.loads(net_log.read_text(encoding="utf-8"))["events"]
    started = [event["params"] for event in events if "url" in event.get("params", {})]
    return {request["url"] for request in started if request.get("initiator") == page}


def test_a_person_sees_the_results_and_one_result(served: str, look: Look, examples: Examples) -> None:
    overview = look(f"{served}/console", "--dump-dom")
    assert "total score: 8 (high)" in overview
    assert f"/console/results/{examples.x_ray}" in overview
    page = look(f"{served}/console/results/{examples.x_ray}", "--dump-dom")
    assert "AI-generated, not reviewed by a person" in page


def test_the_style_the_x_ray_and_the_heat_map_are_drawn(
    served: str, look: Look, examples: Examples, tmp_path: Path
) -> None:
    shot = tmp_path / "shot.png"
    look(f"{served}/console/results/{examples.x_ray}", f"--screenshot={shot}")
    pixels = np.asarray(Image.open(shot).convert("RGB"), dtype=np.int16)
    assert (pixels[10, 600] == (15, 63, 86)).all(), "the header has the style sheet's colour"
    is_grey = np.ptp(pixels, axis=2) < 8
    assert (is_grey & (pixels.max(axis=2) < 120)).mean() > 0.02, "a radiograph is dark and grey"
    assert (pixels[..., 0] - pixels[..., 2] > 60).mean() > 0.01, "a heat map is warm"


def test_a_page_loads_only_its_style_sheet_and_pictures(
    served: str, look: Look, examples: Examples, tmp_path: Path
) -> None:
    log = tmp_path / "net.json"
    page = f"{served}/console/results/{examples.x_ray}"
    look(page, "--dump-dom", f"--log-net-log={log}")
    wanted = {f"{served}/console/style.css", f"{page}/image.png", f"{page}/heat-map.png"}
    asked = asked_by(served, log)
    assert wanted <= asked
    assert asked - wanted <= {f"{served}/console/icon.svg"}
