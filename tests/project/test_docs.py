"""The documentation is complete: every entry of the application's tables is documented, and every link is valid."""

import importlib
import importlib.util
import re
import tomllib
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
REFERENCE = DOCS / "reference"
TOP = [REPOSITORY / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES = TOP + sorted(DOCS.rglob("*.md"))
DECISIONS = sorted((DOCS / "adr").glob("0*.md"))

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
HEADING = re.compile(r"^#{1,6} +(.+)$", re.MULTILINE)


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def anchors(page: str) -> set[str]:
    """Name each heading as a forge does."""
    headings = HEADING.findall(re.sub(r"```.*?```", "", page, flags=re.DOTALL))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # typer imports names that click has deprecated
        spec.loader.exec_module(module)
    return module


def undocumented(names: Iterable[str], page: Path) -> set[str]:
    written = text(page)
    return {name for name in names if f"`{name}`" not in written}


def test_generated_tables_say_what_the_code_says(generate: ModuleType) -> None:
    stale = [name_of(path) for path in generate.stale()]
    assert stale == [], "run: python docs/generate.py"


def test_every_generated_table_is_used(generate: ModuleType) -> None:
    used = {
        name for page in generate.pages().values() for name in re.findall(r"<!-- generated: ([a-z0-9-]+) -->", page)
    }
    assert used == set(generate.TABLES)


def test_every_setting_is_documented() -> None:
    from service.settings import SETTINGS

    assert undocumented((setting.name for setting in SETTINGS), REFERENCE / "settings.md") == set()


def test_every_setting_that_a_page_names_exists() -> None:
    from service.settings import PREFIX, SETTINGS

    known = {setting.name for setting in SETTINGS}
    spoken = {name for page in PAGES for name in re.findall(rf"\b{PREFIX}([A-Z_]+)\b", text(page))}
    assert spoken - known == set()


def test_every_command_is_documented(generate: ModuleType) -> None:
    assert undocumented(generate.command_paths(), REFERENCE / "commands.md") == set()


def test_every_command_that_a_page_names_exists(generate: ModuleType) -> None:
    known = generate.command_paths()
    groups = {path.rsplit(" ", 1)[0] for path in known}
    for page in PAGES:
        for block in CODE.findall(text(page)):
            for words in re.findall(r"(?:^|[\s`])ausculta((?: [a-z][a-z0-9-]*)+)", block):
                spoken = f"ausculta{words}"
                is_known = any(spoken == path or spoken.startswith(f"{path} ") for path in known)
                assert is_known or spoken in groups, f"{name_of(page)}: {spoken}"


def test_every_message_is_documented() -> None:
    from fhir_adapter.hl7v2.messages import MESSAGES

    assert undocumented(MESSAGES, REFERENCE / "messages.md") == set()


def test_every_model_and_runner_is_documented() -> None:
    from inference.models import MODELS
    from inference.runners import RUNNERS

    assert undocumented((*MODELS, *RUNNERS), REFERENCE / "models.md") == set()


def test_everything_that_can_be_taken_of_a_window_is_documented() -> None:
    from inference.features.records import Take

    assert undocumented(get_args(Take), REFERENCE / "models.md") == set()


def test_every_category_is_documented() -> None:
    from kernel.errors import Category

    assert undocumented(Category, REFERENCE / "errors.md") == set()


def test_every_destination_is_documented() -> None:
    from service.destinations import KINDS

    guides = "\n".join(text(path) for path in (DOCS / "how-to").glob("connect-*.md"))
    shortcuts = {"AUSCULTA_EHR_URL", "AUSCULTA_INTERFACE_ENGINE", "AUSCULTA_PACS"}
    assert {name for name in shortcuts if name not in guides} == set()
    assert undocumented(KINDS, REFERENCE / "settings.md") == set()
    assert {kind for kind in KINDS if f"kind `{kind}`" not in guides and f'kind = "{kind}"' not in guides} == set()


def test_every_interaction_is_documented() -> None:
    from fhir_adapter.rest.routes import ROUTES

    codes = {code for route in ROUTES for code in route.codes}
    assert undocumented(codes, REFERENCE / "fhir.md") == set()


def test_every_resource_of_a_result_is_documented() -> None:
    from fhir_adapter.results import BUILDERS

    written = text(REFERENCE / "fhir.md").partition("## Resources of a result")[2]
    assert {kind for kind in BUILDERS if f"| {kind} |" not in written} == set()


def test_every_dicom_result_is_documented() -> None:
    from dicom_node.results import RESULTS

    assert undocumented(RESULTS, REFERENCE / "dicom.md") == set()


def test_every_step_of_a_flow_is_in_the_walk(tmp_path: Path) -> None:
    """The steps are those that the application hands to its worker."""
    from service.application import build
    from service.settings import load

    application = build(load({}, None, data_dir=tmp_path))
    try:
        steps = set(application.worker._steps)
    finally:
        application.close()
    written = text(DOCS / "architecture.md")
    assert {step for step in steps if f'"{step}"' not in written} == set()


NAME = re.compile(r"\b(?:kernel|privacy|inference|fhir_adapter|dicom_node|federated|service)(?:\.[A-Za-z_]\w*)+")
"""A dotted name in full: one of our packages, modules, and functions or classes with their attributes."""


def resolves(name: str) -> bool:
    """Import the longest module that ``name`` begins with, and look up the rest."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        try:
            found: Any = importlib.import_module(module)
        except ModuleNotFoundError as missing:
            if missing.name is None or not f"{module}.".startswith(f"{missing.name}."):
                raise  # an optional dependency is not installed; the module itself exists
            continue
        for part in parts[length:]:
            fields = getattr(found, "__dataclass_fields__", {})
            if not hasattr(found, part) and part not in fields:
                return False
            found = getattr(found, part, fields.get(part))
        return True
    return False


def test_every_name_in_the_architecture_exists() -> None:
    """Names in code are written in full, so that a reader can import them and this test can look them up."""
    names = {name for block in CODE.findall(text(DOCS / "architecture.md")) for name in NAME.findall(block)}
    assert names
    assert {name for name in names if not name.endswith(".py") and not resolves(name)} == set()


@pytest.mark.parametrize(
    ("name", "exists"),
    [
        ("kernel.worker.Worker.run_one", True),
        ("kernel.worker", True),
        ("kernel.worker.Worker.run_two", False),
        ("kernel.absent.Worker", False),
    ],
)
def test_a_function_that_does_not_exist_is_detected(name: str, exists: bool) -> None:
    assert resolves(name) is exists


def test_every_table_is_in_the_architecture() -> None:
    from kernel.tables import metadata

    assert undocumented(metadata.tables, DOCS / "architecture.md") == set()


def test_every_dependency_has_its_reason_and_licence() -> None:
    project = tomllib.loads(text(REPOSITORY / "pyproject.toml"))["project"]
    wanted = [*project["dependencies"], *(name for some in project["optional-dependencies"].values() for name in some)]
    names = {re.split(r"[\[<>=~!; ]", requirement)[0] for requirement in wanted}
    written = text(DOCS / "adr" / "0017-dependencies-and-licences.md")
    assert {name for name in names if f"| {name} |" not in written} == set()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in LINK.findall(CODE.sub("", text(page))):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        place = (page.parent / file).resolve() if file else page
        if not place.exists() or (anchor and anchor not in anchors(text(place))):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=name_of)
def test_every_page_is_linked_to(page: Path) -> None:
    linked = {
        (other.parent / target.partition("#")[0]).resolve()
        for other in PAGES
        if other != page
        for target in LINK.findall(CODE.sub("", text(other)))
    }
    assert page in linked


def test_every_test_and_file_that_is_named_exists() -> None:
    named = r"`((?:tests|docs|kernel|privacy|inference|fhir_adapter|dicom_node|federated|service)/[\w./-]+)`"
    missing = {
        f"{name_of(page)}: {place}"
        for page in PAGES
        for place in re.findall(named, text(page))
        if not (REPOSITORY / place).exists()
    }
    assert missing == set()


@pytest.mark.parametrize("decision", DECISIONS, ids=name_of)
def test_an_adr_has_four_sections(decision: Path) -> None:
    written = text(decision)
    parts = re.findall(r"^## (.+)$", written, re.MULTILINE)
    assert parts == ["Status", "Context", "Decision", "Consequences"]
    assert re.search(r"^\d{4}-\d\d-\d\d$", written, re.MULTILINE)
    assert written.startswith(f"# {decision.name[:4]}. ")


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = [int(decision.name[:4]) for decision in DECISIONS]
    assert numbers == list(range(1, len(numbers) + 1))


def test_every_make_target_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", text(REPOSITORY / "Makefile"), re.MULTILINE))
    spoken = {
        name for page in PAGES for block in CODE.findall(text(page)) for name in re.findall(r"\bmake ([a-z-]+)", block)
    }
    assert spoken <= targets
    assert {"demo", "test"} <= spoken


def test_the_example_model_of_the_documentation_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from inference.loading import load_model

    page = text(DOCS / "how-to" / "bring-a-model.md")
    monkeypatch.chdir(tmp_path)
    for name, content in re.findall(r"`(pulse-pressure/[\w./]+)`:\n\n```\w+\n(.*?)```", page, re.DOTALL):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(content, encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(program, {})

    assert load_model(tmp_path / "pulse-pressure").model.manifest.name == "pulse-pressure"


def test_the_tutorials_messages_do_what_it_says() -> None:
    from fhir_adapter.hl7v2.message import Message
    from fhir_adapter.hl7v2.messages import check
    from kernel.errors import Category, Problem

    page = text(DOCS / "tutorial.md").replace(r"^~\\&", r"^~\&").replace("$NOW", "20261120083000+0000")
    messages = dict(re.findall(r"cat > (\w+)\.hl7 <<'?END'?\n(.*?)END\n", page, re.DOTALL))

    check(Message.parse(messages["admit"].encode()))
    check(Message.parse(messages["vitals"].encode()))
    with pytest.raises(Problem) as refused:
        check(Message.parse(messages["broken"].encode()))
    assert refused.value.category is Category.INCORRECT
