"""The ledger: a permanent record of what every round of a federation exchanged and produced.

A round is a row of ``federated_rounds``, a FHIR R4 Provenance (https://hl7.org/fhir/R4/provenance.html) that names the
weights by digest and the sites that took part, and an AuditEvent, all in one commit.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from sqlalchemy import insert

from federated.server_app import RoundReport, SiteReport
from kernel.clock import Clock
from kernel.db import Transaction
from kernel.tables import federated_rounds
from privacy import balp
from privacy.audit import AuditLog
from privacy.principal import Principal

Resource: TypeAlias = dict[str, Any]

WEIGHTS: Final = "urn:ausculta:weights:sha256"
"""Identifier system of parameters; the value is their SHA-256."""
SITE: Final = "urn:ausculta:federated:site"
"""Identifier system of the sites of a federation."""

_PARTICIPANT: Final = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
_OPERATION: Final = "http://terminology.hl7.org/CodeSystem/v3-DataOperation"


class Ledger:
    """Records rounds.

    Parameters
    ----------
    audit
        Records the AuditEvents.
    clock
        Source of the time at which a round is recorded.
    prepare_resource
        Validates a FHIR resource and returns what stores it in a transaction.
    principal
        Who runs the federation.
    """

    def __init__(
        self,
        audit: AuditLog,
        clock: Clock,
        prepare_resource: Callable[[Resource], Callable[[Transaction], object]],
        principal: Principal,
    ) -> None:
        self._audit = audit
        self._clock = clock
        self._prepare_resource = prepare_resource
        self._principal = principal

    def prepare(self, run: str, report: RoundReport) -> Callable[[Transaction], None]:
        """Prepare one round, outside the transaction, and return what writes it.

        Parameters
        ----------
        run
            Id of the run.
        report
            The report of the round.

        Returns
        -------
        callable
            Writes the round in the transaction that it is given; a round that is stored already makes it fail.
        """
        at = self._clock.now()
        row = {"run": run, "round": report.round, "recorded_at": at, "record": json.dumps(as_json(report))}
        store_provenance = self._prepare_resource(provenance(run, report, server=self._principal.server, at=at))
        entity = f"urn:ausculta:federated:{run}:{report.round}"
        event = balp.administered(self._principal, command="federated-round-recorded", entity=entity, at=at)

        def commit(tx: Transaction) -> None:
            tx.execute(insert(federated_rounds), row)
            store_provenance(tx)
            self._audit.record(tx, event)

        return commit


def as_json(report: RoundReport) -> dict[str, Any]:
    """Return a round as JSON for the ledger's row."""
    return {
        "kind": report.kind,
        "digest": report.digest,
        "previous": report.previous,
        "sites": [_site(site) for site in report.sites],
    }


def provenance(run: str, report: RoundReport, *, server: str, at: datetime) -> Resource:
    """Return the FHIR Provenance of a round's parameters.

    Parameters
    ----------
    run
        Id of the run, valid as a part of a FHIR id.
    report
        The report of the round.
    server
        Name of the server that coordinated the round.
    at
        Time of the round; aware.
    """
    recorded = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    operation = "CREATE" if report.previous is None else "UPDATE"
    resource: Resource = {
        "resourceType": "Provenance",
        "id": f"federated-{run}-{report.round}",
        "target": [_weights(report.digest, f"after round {report.round} ({report.kind})")],
        "occurredDateTime": recorded,
        "recorded": recorded,
        "activity": {"coding": [{"system": _OPERATION, "code": operation}]},
        "agent": [
            _agent("assembler", {"value": server}),
            *(_agent("performer", {"system": SITE, "value": site.site}) for site in report.sites),
        ],
    }
    if report.previous is not None:
        resource["entity"] = [{"role": "revision", "what": _weights(report.previous, "before the round")}]
    return resource


def _site(site: SiteReport) -> dict[str, Any]:
    return {
        "site": site.site,
        "examples": site.examples,
        "test_positives": site.alone.positives,
        "test_negatives": site.alone.negatives,
        "meaningful": site.alone.meaningful,
        "auc": site.federated.auc if site.federated else None,
        "auc_alone": site.alone.auc,
    }


def _weights(digest: str, display: str) -> dict[str, Any]:
    return {"identifier": {"system": WEIGHTS, "value": digest}, "display": f"federated parameters {display}"}


def _agent(role: str, identifier: dict[str, str]) -> dict[str, Any]:
    return {"type": {"coding": [{"system": _PARTICIPANT, "code": role}]}, "who": {"identifier": identifier}}
