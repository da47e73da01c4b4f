"""Settings: read once, checked, and safe by default."""

from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from kernel.errors import Category, Problem
from service.settings import DicomPeer, HostPort, load


def test_the_defaults_are_those_that_others_rely_on() -> None:
    settings = load({})
    assert (settings.http_host, settings.http_port) == ("127.0.0.1", 8080)
    assert (settings.mllp_host, settings.mllp_port) == ("127.0.0.1", 2575)
    assert (settings.dicom_host, settings.dicom_port, settings.dicom_ae_title) == ("127.0.0.1", 11112, "AUSCULTA")
    assert settings.dicom_study_quiet_s == 30
    assert settings.auth == "open"
    assert settings.database == "sqlite:///ausculta-data/ausculta.db"


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    config = tmp_path / "ausculta.toml"
    config.write_text('http_port = 9000\nmllp_port = 9001\npacs = "PACS@127.0.0.1:104"\n')
    settings = load({"AUSCULTA_HTTP_PORT": "9999"}, config)
    assert (settings.http_port, settings.mllp_port) == (9999, 9001)
    assert settings.pacs == DicomPeer(ae_title="PACS", host="127.0.0.1", port=104)


def test_peers_zones_and_systems_are_read() -> None:
    settings = load(
        {
            "AUSCULTA_ENGINE": "[::1]:2576",
            "AUSCULTA_TIME_ZONE": "Europe/Berlin",
            "AUSCULTA_IDENTIFIER_SYSTEMS": "HOSP=https://hosp.example/mrn,LAB=urn:oid:1.2.3",
            "AUSCULTA_MODELS": "/a:/b",
            "AUSCULTA_SETTLE_S": "news2=20,cxr-pneumonia=0",
        }
    )
    assert settings.interface_engine == HostPort(host="::1", port=2576)
    assert settings.time_zone == ZoneInfo("Europe/Berlin")
    assert settings.identifier_systems == {"HOSP": "https://hosp.example/mrn", "LAB": "urn:oid:1.2.3"}
    assert settings.model_dirs == (Path("/a"), Path("/b"))
    assert settings.settle_s == {"news2": 20.0, "cxr-pneumonia": 0.0}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTP_PORT", "http"),
        ("SETTLE_S", "news2"),
        ("SETTLE_S", "news2=soon"),
        ("HTTP_PORT", "70000"),
        ("DICOM_AE_TITLE", "MUCH-TOO-LONG-FOR-AN-AE"),
        ("DICOM_STUDY_QUIET_S", "-1"),
        ("AUTH", "none"),
        ("TIME_ZONE", "Mars/Olympus"),
        ("PACS", "PACS@host"),
        ("WORKER_THREADS", "many"),
        ("REMOTE_MODEL_HOSTS", "https://models.example"),
        ("REMOTE_MODEL_TOKENS", "/no/such/file"),
    ],
)
def test_a_malformed_setting_is_refused_by_its_name(name: str, value: str) -> None:
    with pytest.raises(Problem, match=name) as refused:
        load({f"AUSCULTA_{name}": value})
    assert refused.value.category is Category.INCORRECT


def test_an_unknown_setting_is_refused_and_not_ignored(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="HTPP_PORT"):
        load({"AUSCULTA_HTPP_PORT": "1"})
    config = tmp_path / "ausculta.toml"
    config.write_text("htpp_port = 1\n")
    with pytest.raises(Problem, match="HTPP_PORT"):
        load({}, config)


@pytest.mark.parametrize("name", ["HTTP_HOST", "MLLP_HOST", "DICOM_HOST"])
@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "::", "hospital.example"])
def test_an_open_server_refuses_to_listen_beyond_loopback(name: str, host: str) -> None:
    with pytest.raises(Problem, match=name) as refused:
        load({f"AUSCULTA_{name}": host})
    assert refused.value.category is Category.FORBIDDEN


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_is_allowed(host: str) -> None:
    assert load({"AUSCULTA_HTTP_HOST": host}).http_host == host


def test_smart_is_refused_as_long_as_it_is_not_there() -> None:
    with pytest.raises(Problem) as refused:
        load({"AUSCULTA_AUTH": "smart"})
    assert refused.value.category is Category.UNSUPPORTED


@pytest.mark.parametrize(
    ("former", "present", "written"),
    [
        ("ENGINE", "INTERFACE_ENGINE", "engine.city.example:6661"),
        ("MODELS", "MODEL_DIRS", "/srv/a:/srv/b"),
        ("PATIENT_AUTHORITY", "DEFAULT_ASSIGNING_AUTHORITY", "CITY"),
    ],
)
def test_a_setting_is_still_read_under_its_former_name(former: str, present: str, written: str) -> None:
    assert load({f"AUSCULTA_{former}": written}) == load({f"AUSCULTA_{present}": written})
    with pytest.raises(Problem, match=f"setting {present} is also given as {former}"):
        load({f"AUSCULTA_{former}": written, f"AUSCULTA_{present}": written})


def tokens_file(folder: Path, content: str, mode: int = 0o600) -> dict[str, str]:
    path = folder / "tokens.toml"
    path.write_text(content)
    path.chmod(mode)
    return {"AUSCULTA_REMOTE_MODEL_TOKENS": str(path)}


def test_tokens_of_servers_of_models_come_from_a_file_of_its_owner_and_are_never_shown(tmp_path: Path) -> None:
    settings = load(tokens_file(tmp_path, '"models.example:8443" = "abc.def"\n'))
    assert settings.remote_model_tokens == {"models.example:8443": "abc.def"}
    assert "abc.def" not in repr(settings)
    assert (load({}).remote_model_hosts, load({}).remote_model_tokens) == ((), {})


@pytest.mark.parametrize(
    ("content", "mode"),
    [
        ('"models.example" = "abc"', 0o644),
        ('"models.example" = 7', 0o600),
        ('"models.example" = "two words"', 0o600),
        ('"https://models.example" = "abc"', 0o600),
        ("[models]\nexample = 1", 0o600),
        ("no TOML", 0o600),
    ],
)
def test_a_file_of_tokens_that_others_may_read_or_that_is_malformed_is_refused(
    tmp_path: Path, content: str, mode: int
) -> None:
    with pytest.raises(Problem, match="REMOTE_MODEL_TOKENS") as refused:
        load(tokens_file(tmp_path, content, mode))
    assert "abc" not in refused.value.detail + refused.value.diagnostics
