"""Every setting: its name, type, default and purpose.

Settings come from environment variables ``AUSCULTA_<NAME>`` and from a TOML file given by ``--config`` (lower-case
names); the environment wins. They are read once, at the start, into one frozen :class:`Settings`; no other
module reads the environment. A setting that is unknown or malformed stops the start with its name.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from fhir_adapter.patient_identity import DEFAULT_RANK
from kernel.errors import Category, Problem
from privacy.principal import is_loopback

PREFIX: Final = "AUSCULTA_"

DESTINATION: Final = "destination"
"""Name of the array of tables in the TOML file that lists further destinations."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One row of :data:`SETTINGS`; the reference documentation is generated from it."""

    name: str
    read: Callable[[str], Any]
    default: Any
    help: str


@dataclass(frozen=True, kw_only=True)
class DicomPeer:
    """Address of a PACS."""

    ae_title: str
    host: str
    port: int


@dataclass(frozen=True, kw_only=True)
class HostPort:
    """Address of a peer."""

    host: str
    port: int


def _integer(text: str) -> int:
    return int(text)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < 86_400:
        msg = "must be between 0 and 86400 seconds"
        raise ValueError(msg)
    return seconds


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port < 65_536:
        msg = "must be between 0 and 65535"
        raise ValueError(msg)
    return port


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        number = int(text)
        if not least <= number <= most:
            msg = f"must be between {least} and {most}"
            raise ValueError(msg)
        return number

    return read


def _ae_title(text: str) -> str:
    if not 0 < len(text.strip()) <= 16 or not text.isascii() or "\\" in text:
        msg = "must have 1 to 16 ASCII characters (PS3.5, VR AE)"
        raise ValueError(msg)
    return text.strip()


def _host_port(text: str) -> HostPort | None:
    if not text:
        return None
    host, _, port = text.rpartition(":")
    return HostPort(host=host.strip("[]"), port=_port(port))


def _dicom_peer(text: str) -> DicomPeer | None:
    if not text:
        return None
    ae_title, _, place = text.partition("@")
    host, _, port = place.rpartition(":")
    return DicomPeer(ae_title=_ae_title(ae_title), host=host.strip("[]"), port=_port(port))


def _choice(*allowed: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in allowed:
            msg = f"must be one of {', '.join(allowed)}"
            raise ValueError(msg)
        return text

    return read


def _paths(text: str) -> tuple[Path, ...]:
    return tuple(Path(part) for part in text.split(":") if part)


def _pairs(text: str) -> Mapping[str, str]:
    return dict(part.split("=", 1) for part in text.split(",") if part)


def _rank(text: str) -> tuple[str, ...]:
    entries = tuple(part.strip() for part in text.split(",") if part.strip())
    if any(not re.fullmatch(r"[^^]+(\^[^^]*)?", entry) for entry in entries):
        msg = "must be types of identifiers, such as MR, or an authority and a type, such as CITY^MR"
        raise ValueError(msg)
    return entries


def _days(text: str) -> float:
    days = float(text)
    if not 0 < days <= 30:
        msg = "must be more than 0 and up to 30 days"
        raise ValueError(msg)
    return days


def _hosts(text: str) -> tuple[str, ...]:
    hosts = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    if any(not re.fullmatch(r"(\*\.)?[a-z0-9.\-]+(:\d{1,5})?|\[[0-9a-f:.]+\](:\d{1,5})?", host) for host in hosts):
        msg = "must be hosts such as app.hospital.example, app.hospital.example:8443, *.hospital.example or [::1]"
        raise ValueError(msg)
    return hosts


def _tokens(text: str) -> Mapping[str, str]:
    path = Path(text)
    if path.stat().st_mode & 0o077:
        msg = "the file may be read by others than its owner: chmod 600 it"
        raise ValueError(msg)
    tokens = tomllib.loads(path.read_text(encoding="utf-8"))
    _hosts(",".join(tokens))
    if not all(isinstance(token, str) and re.fullmatch(r"[A-Za-z0-9._~+/=-]+", token) for token in tokens.values()):
        msg = 'must have lines such as "models.hospital.example" = "token"'
        raise ValueError(msg)
    return tokens


def _seconds_of(text: str) -> Mapping[str, float]:
    return {name: _seconds(seconds) for name, seconds in _pairs(text).items()}


SETTINGS: Final[tuple[Setting, ...]] = (
    Setting(
        name="DATA_DIR", read=Path, default=Path("ausculta-data"), help="Folder of all data: database, blobs, keys."
    ),
    Setting(
        name="DATABASE_URL",
        read=str,
        default="",
        help="sqlite:///… or postgresql+psycopg://…; sqlite:///<DATA_DIR>/ausculta.db when empty.",
    ),
    Setting(name="HTTP_HOST", read=str, default="127.0.0.1", help="Address of the FHIR API and the console."),
    Setting(name="HTTP_PORT", read=_port, default=8080, help="Its port; 0 takes a free one."),
    Setting(name="MLLP_HOST", read=str, default="127.0.0.1", help="Address of the HL7 v2 listener."),
    Setting(name="MLLP_PORT", read=_port, default=2575, help="Its port; 0 takes a free one."),
    Setting(name="DICOM_HOST", read=str, default="127.0.0.1", help="Address of the DICOM listener."),
    Setting(name="DICOM_PORT", read=_port, default=11112, help="Its port; 0 takes a free one."),
    Setting(name="DICOM_AE_TITLE", read=_ae_title, default="AUSCULTA", help="Our application entity title."),
    Setting(
        name="DICOM_STUDY_QUIET_S",
        read=_seconds,
        default=30.0,
        help="A study is complete when nothing arrived for this long and no association that sent some of it is open.",
    ),
    Setting(
        name="AUTH",
        read=_choice("open", "smart"),
        default="open",
        help="open: requests without authentication, from this machine only. smart: not in this release.",
    ),
    Setting(
        name="PUBLIC_URL",
        read=str,
        default="",
        help="Base URL by which others reach this server, for links in results; http://HTTP_HOST:HTTP_PORT when empty.",
    ),
    Setting(name="EHR_URL", read=str, default="", help="FHIR base URL of the EHR; results are not sent when empty."),
    Setting(
        name="INTERFACE_ENGINE",
        read=_host_port,
        default=None,
        help="host:port of the interface engine that receives ORU^R01.",
    ),
    Setting(name="PACS", read=_dicom_peer, default=None, help="AETITLE@host:port of the PACS that receives SR."),
    Setting(
        name="DEFAULT_ASSIGNING_AUTHORITY",
        read=str,
        default="HOSPITAL",
        help="Assigning authority of patient numbers that arrive without one (PID-3.4, IssuerOfPatientID).",
    ),
    Setting(
        name="IDENTIFIER_SYSTEMS",
        read=_pairs,
        default={},
        help="NAMESPACE=uri,…: the FHIR identifier system of an assigning authority.",
    ),
    Setting(
        name="IDENTIFIER_RANK",
        read=_rank,
        default=DEFAULT_RANK,
        help="Identifiers of a patient in the order of trust: MR (table 0203), CITY^MR, CITY^ (any type of CITY).",
    ),
    Setting(
        name="TIME_ZONE",
        read=ZoneInfo,
        default=None,
        help="Zone of HL7 v2 and DICOM times without an offset, such as Europe/Berlin; without it HL7 v2 times keep "
        "their date only, and DICOM times are read as UTC.",
    ),
    Setting(
        name="CLOCK_TOLERANCE_S",
        read=_seconds,
        default=300.0,
        help="How far the time of a value may lie in the future and still count as now; beyond it the value waits.",
    ),
    Setting(
        name="SETTLE_S",
        read=_seconds_of,
        default={},
        help="MODEL=seconds,…: how long a model waits after the first new value for further ones; 0: not at all.",
    ),
    Setting(name="MODEL_DIRS", read=_paths, default=(), help="Further model folders, separated by colons."),
    Setting(name="DEVICE", read=_choice("auto", "cpu", "cuda"), default="auto", help="Device on which networks run."),
    Setting(
        name="MODEL_DEADLINE_S",
        read=_seconds,
        default=60.0,
        help="Longest time of one model run; after it the run has failed.",
    ),
    Setting(
        name="REMOTE_MODEL_HOSTS",
        read=_hosts,
        default=(),
        help="host, host:port or *.domain,…: servers of models that models of kind remote may call; a model that names "
        "another host is refused, so none may call any when empty.",
    ),
    Setting(
        name="REMOTE_MODEL_TOKENS",
        read=_tokens,
        default={},
        help='TOML file of "host:port" = "token": the bearer token for each server of models. Only its owner may be '
        "able to read it (mode 0600).",
    ),
    Setting(
        name="WORKER_THREADS",
        read=_integer,
        default=4,
        help="How many jobs run at a time in one process, besides one of shadow models and one for each destination, "
        "which may not answer; 0: none at all.",
    ),
    Setting(
        name="WORKER_PROCESSES",
        read=_whole(0, 64),
        default=1,
        help="How many processes of `serve` or `worker` run jobs; 0 where `worker` runs elsewhere on PostgreSQL.",
    ),
    Setting(
        name="HTTP_PROCESSES",
        read=_whole(1, 64),
        default=1,
        help="How many processes of `serve` answer HTTP on one port; the first has the HL7 v2 and DICOM listeners too.",
    ),
    Setting(
        name="REFUSALS_IN_A_ROW",
        read=_integer,
        default=5,
        help="A destination that refuses the results of so many patients with the same answer, and accepts nothing "
        "between them, is paused and tried again instead of parking them; 0: each is parked.",
    ),
    Setting(
        name="SUBSCRIPTION_HOSTS",
        read=_hosts,
        default=(),
        help="host, host:port or *.domain,…: where clients may have notifications sent; a Subscription to any other "
        "host is refused, so none is accepted when empty.",
    ),
    Setting(
        name="SUBSCRIPTION_RETRY_DAYS",
        read=_days,
        default=3.0,
        help="For so many days notifications that an endpoint does not accept are tried again; then its Subscription "
        "is in error, and its events are kept.",
    ),
    Setting(
        name="LOG_LEVEL",
        read=_choice("DEBUG", "INFO", "WARNING", "ERROR"),
        default="INFO",
        help="Least severe level that is written.",
    ),
    Setting(
        name="LOG_FORMAT",
        read=_choice("json", "console"),
        default="json",
        help="JSON for log collectors, or text for a terminal.",
    ),
)


ALIASES: Final[Mapping[str, str]] = {
    "ENGINE": "INTERFACE_ENGINE",
    "MODELS": "MODEL_DIRS",
    "PATIENT_AUTHORITY": "DEFAULT_ASSIGNING_AUTHORITY",
}
"""Former name of a setting -> its present one; both are read."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings, checked; field names are those of :data:`SETTINGS` in lower case."""

    data_dir: Path
    database_url: str
    http_host: str
    http_port: int
    mllp_host: str
    mllp_port: int
    dicom_host: str
    dicom_port: int
    dicom_ae_title: str
    dicom_study_quiet_s: float
    auth: str
    public_url: str
    ehr_url: str
    interface_engine: HostPort | None
    pacs: DicomPeer | None
    default_assigning_authority: str
    identifier_systems: Mapping[str, str]
    identifier_rank: tuple[str, ...]
    time_zone: ZoneInfo | None
    clock_tolerance_s: float
    settle_s: Mapping[str, float]
    model_dirs: tuple[Path, ...]
    device: str
    model_deadline_s: float
    remote_model_hosts: tuple[str, ...]
    remote_model_tokens: Mapping[str, str] = field(repr=False)
    worker_threads: int
    worker_processes: int
    http_processes: int
    refusals_in_a_row: int
    subscription_hosts: tuple[str, ...]
    subscription_retry_days: float
    log_level: str
    log_format: str
    destination: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    """The ``[[destination]]`` tables of the file as they are written; ``service.destinations`` reads them."""

    def __post_init__(self) -> None:
        if self.auth == "smart":
            raise Problem(
                Category.UNSUPPORTED, "AUTH=smart is not in this release; bind to loopback behind a proxy that asks"
            )
        for name in ("http_host", "mllp_host", "dicom_host"):
            if not is_loopback(getattr(self, name)):
                raise Problem(
                    Category.FORBIDDEN, f"{name.upper()} is not loopback: with AUTH=open this server refuses to start"
                )

    @property
    def database(self) -> str:
        """The database's URL, or the default one."""
        return self.database_url or f"sqlite:///{self.data_dir}/ausculta.db"


def load(environment: Mapping[str, str], config: Path | None = None, **overrides: Any) -> Settings:
    """Read the settings.

    Parameters
    ----------
    environment
        The process's environment, read here and nowhere else.
    config
        A TOML file with lower-case names.
    overrides
        Values that take precedence over both, by field name; for commands that start a server of their own.

    Raises
    ------
    Problem
        ``incorrect``, naming the setting that is unknown or malformed.
    """
    file = _read_toml(config)
    tables = _destination_tables(file.pop(DESTINATION, []))
    written = _renamed({name.upper(): str(value) for name, value in file.items()})
    from_environment = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
    written |= _renamed({name.removeprefix(PREFIX): value for name, value in from_environment.items()})
    names = {setting.name for setting in SETTINGS}
    for name in written:
        if name not in names:
            raise Problem(Category.INCORRECT, f"there is no setting {name}")
    values = {setting.name.lower(): _value(setting, written.get(setting.name)) for setting in SETTINGS}
    return Settings(**({**values, DESTINATION: tables} | overrides))


def _destination_tables(written: Any) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(written, list) or not all(isinstance(table, dict) for table in written):
        raise Problem(Category.INCORRECT, "destinations are written as [[destination]] tables")
    return tuple(written)


def _renamed(written: Mapping[str, str]) -> dict[str, str]:
    """Return the settings with each former name replaced by the present one.

    Raises
    ------
    Problem
        ``incorrect`` when a setting is written under both names.
    """
    for former, present in ALIASES.items():
        if former in written and present in written:
            raise Problem(Category.INCORRECT, f"setting {present} is also given as {former}, its former name")
    return {ALIASES.get(name, name): value for name, value in written.items()}


def _value(setting: Setting, written: str | None) -> Any:
    if written is None or (written == "" and setting.default in (None, "")):
        return setting.default
    try:
        return setting.read(written)
    except (ValueError, KeyError, OSError) as failure:
        detail = f"setting {setting.name} is malformed: {setting.help}"
        raise Problem(Category.INCORRECT, detail, diagnostics=str(failure)) from failure


def _read_toml(config: Path | None) -> dict[str, Any]:
    if config is None:
        return {}
    try:
        with config.open("rb") as file:
            return tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError) as failure:
        raise Problem(Category.INCORRECT, f"{config} cannot be read as TOML", diagnostics=str(failure)) from failure


assert [field.name for field in fields(Settings)] == [*(setting.name.lower() for setting in SETTINGS), DESTINATION]
