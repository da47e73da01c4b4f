"""``ausculta``: the one public command.

Each command imports what it needs when it runs, so that ``ausculta models stop`` does not wait for a neural network's
library. A :class:`~kernel.errors.Problem` ends a command with its one sentence and exit code 2.
"""

import sys
from typing import Annotated

import typer

from kernel.errors import Problem
from privacy.authorize import Interaction
from service.commands.audit import app as audit
from service.commands.command_context import (
    ConfigOption,
    command_context,
    read_settings,
    require_command,
)
from service.commands.deliveries import app as deliveries
from service.commands.ehr import app as ehr
from service.commands.federated import app as federated
from service.commands.identity import app as identity
from service.commands.jobs import app as jobs
from service.commands.messages import app as messages
from service.commands.models import app as models
from service.commands.profiles import app as profiles
from service.commands.results import app as results
from service.commands.send import app as send
from service.commands.subscriptions import app as subscriptions

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Ausculta puts AI models to work inside a hospital: FHIR, HL7 v2 and DICOM in, results where clinicians look.",
)
app.add_typer(models, name="models")
app.add_typer(jobs, name="jobs")
app.add_typer(profiles, name="profiles")
app.add_typer(results, name="results")
app.add_typer(deliveries, name="deliveries")
app.add_typer(subscriptions, name="subscriptions")
app.add_typer(identity, name="identity")
app.add_typer(messages, name="messages")
app.add_typer(audit, name="audit")
app.add_typer(send, name="send")
app.add_typer(ehr, name="ehr")
app.add_typer(federated, name="federated")


@app.command()
def serve(config: ConfigOption = None) -> None:
    """Open the HTTP, MLLP and DICOM listeners and work, until SIGTERM or Ctrl-C."""
    settings = read_settings(config)
    authorizer, _ = require_command(Interaction.OPERATE)
    from service.serving import serve as run

    run(settings, authorizer)


@app.command()
def worker(config: ConfigOption = None) -> None:
    """Work without listeners: several of these share one PostgreSQL database."""
    settings = read_settings(config)
    authorizer, _ = require_command(Interaction.OPERATE)
    from service.serving import work as run

    run(settings, authorizer)


@app.command()
def migrate(config: ConfigOption = None) -> None:
    """Bring the database to this version's schema."""
    with command_context(config) as context:
        typer.echo(f"{context.database.url.render_as_string(hide_password=True)} has the newest schema")


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="End when every result has arrived.")] = False,  # noqa: FBT002 - typer's way
) -> None:
    """Send a patient's story through every listener of a server of its own, and show the results."""
    from service.demo import run

    raise typer.Exit(run(once=once))


def main() -> None:
    """Run the command line."""
    try:
        app()
    except Problem as problem:
        typer.echo(f"ausculta: {problem.detail}", err=True)
        sys.exit(2)
