"""What becomes of a model's answer, the same for every path.

    publish  outcome -> resources, pictures, messages => RiskAssessment, Observation, …, results row, deliveries

A result states something: the hash of model, version, digest, patient and input versions. What the newest result of the
model about the patient states already is not written again: retries, replays and duplicates converge here. What was
stated before another result, and is true again, is a new result that names the one it follows, so that the newest
statement is the newest at every destination.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection

from fhir_adapter.results import resources_for
from inference.artefacts import encode
from inference.contract import (
    FeatureUse,
    NotAvailable,
    Outcome,
    Output,
    Prediction,
    as_plain,
    from_plain,
    result_id,
    statement_id,
)
from inference.manifest import Manifest
from inference.wording import summary
from kernel.db import Transaction
from kernel.errors import Category, Problem
from kernel.log import get_logger
from kernel.outbox import Delivery
from kernel.worker import Commit
from privacy.principal import SERVER
from service.core import CoreServices
from service.destinations.contract import Destination, ModelResult
from service.flows.filing import filing_of
from service.flows.pictures import as_png, overlay_png
from service.flows.rendering import forms
from service.flows.result_context import ServerContext
from service.flows.sources import with_sources
from service.results import NewResult
from service.results.records import Place

_log = get_logger(__name__)


class Publisher:
    """Writes results.

    Parameters
    ----------
    core
        The components that every flow uses.
    destinations
        Where results leave to.
    context
        How resources describe this server.
    """

    def __init__(self, core: CoreServices, destinations: Sequence[Destination], context: ServerContext) -> None:
        self._core = core
        self._destinations = destinations
        self._context = context

    def publish(self, model_result: ModelResult) -> Commit:
        """Render a result for everybody who is to have it, and return the commit that writes it all at once.

        A model in ``shadow`` is stored and not delivered. Its results have no destination, not a hidden one.
        """
        model_result = with_sources(model_result, self._core.blobs)
        with self._core.database.read() as connection:
            place = self._place(connection, model_result)
            filing = filing_of(connection, self._core.store, model_result, self._core.zone, place.before)
        outcome = replace(model_result.outcome, follows=place.follows)
        sent_before = tuple(_stored_output(one, model_result.manifest) for one in place.outputs)
        model_result = replace(model_result, outcome=outcome, filing=filing, sent_before=sent_before)
        result = result_id(outcome)
        resources = resources_for(outcome, self._context.about(model_result))
        prepared = self._core.writer.prepare(resources)
        receivers = self._receivers(result, outcome, place)
        deliveries = self._deliveries(result, model_result, resources, receivers)
        row = self._row(result, model_result)

        def commit(tx: Transaction) -> None:
            tx.lock(f"results:{outcome.model.name}:{outcome.subject.reference}")
            now = self._place(tx.connection, model_result)
            if now.said:
                _log.info("result_unchanged", result=result)
                return
            if now != place:
                raise Problem(Category.BUSY, "another result of the model about the patient was stored meanwhile")
            written = self._core.writer.apply(tx, prepared, SERVER)
            references = [done.version.reference for done in written]
            self._core.results.add(tx, row, resources=references, supersedes=model_result.supersedes)
            for delivery in deliveries:
                self._core.outbox.add(tx, delivery)

        return commit

    def _place(self, connection: Connection, model_result: ModelResult) -> Place:
        imaging = model_result.imaging
        study = None if imaging is None else imaging.study.StudyInstanceUID
        return self._core.results.place_of(
            connection, model_result.outcome, study=study, document=model_result.document
        )

    def _receivers(self, result: str, outcome: Outcome, place: Place) -> list[Destination]:
        """Return who is to have a result: nobody a shadow result, and nobody a notice that the site leaves out.

        A notice after a prediction is sent in any case: without it the prediction would read as the present state.
        """
        if outcome.model.status != "active":
            return []
        receivers = []
        for destination in self._destinations:
            notice = None if place.after_prediction else destination.leave_out.notice(outcome)
            if notice is None:
                receivers.append(destination)
            else:
                _log.info("delivery_left_out", destination=destination.name, notice=notice, result=result)
        return receivers

    def _deliveries(
        self,
        result: str,
        model_result: ModelResult,
        resources: Sequence[dict[str, Any]],
        receivers: Sequence[Destination],
    ) -> list[Delivery]:
        context = self._context.about(model_result)
        return [
            self._core.outbox.prepare(
                Delivery(
                    destination=destination.name,
                    idempotency_key=rendered.idempotency_key,
                    subject=result,
                    patient=model_result.outcome.subject.reference,
                    payload=rendered.payload,
                    failure=rendered.failure,
                )
            )
            for destination in receivers
            for rendered in forms(destination, result, model_result, resources, context)
        ]

    def _row(self, result: str, model_result: ModelResult) -> NewResult:
        outcome, imaging = model_result.outcome, model_result.imaging
        picture, heat_map = self._pictures(model_result)
        return NewResult(
            id=result,
            model=outcome.model.name,
            version=outcome.model.version,
            digest=outcome.model.digest,
            status=outcome.model.status,
            kind=outcome.kind if isinstance(outcome, NotAvailable) else "prediction",
            summary=summary(outcome),
            reason=outcome.reason if isinstance(outcome, NotAvailable) else None,
            subject=outcome.subject.reference,
            document=model_result.document,
            subject_version=outcome.subject.version,
            study=None if imaging is None else imaging.study.StudyInstanceUID,
            inputs=outcome.input_versions,
            outputs=() if isinstance(outcome, NotAvailable) else tuple(_output(one) for one in outcome.outputs),
            features=tuple(_feature(one) for one in outcome.features),
            artefacts=self._artefacts(outcome),
            image=picture,
            heat_map=heat_map,
            software_version=self._context.software_version,
            latency_ms=outcome.latency_ms,
            computed_at=outcome.at,
            statement=statement_id(outcome),
        )

    def _pictures(self, model_result: ModelResult) -> tuple[str | None, str | None]:
        """Keep the image as the model saw it, and the heat map over it; return their addresses."""
        if model_result.imaging is None or model_result.imaging.image is None:
            return None, None
        pixels = model_result.imaging.image.pixels
        picture = self._core.blobs.put(as_png(pixels))
        outcome = model_result.outcome
        if not isinstance(outcome, Prediction) or outcome.heat_map is None:
            return picture, None
        return picture, self._core.blobs.put(overlay_png(pixels, outcome.heat_map.values))

    def _artefacts(self, outcome: Outcome) -> tuple[dict[str, Any], ...]:
        """Keep each array as a blob, and return what a row holds of it."""
        if isinstance(outcome, NotAvailable):
            return ()
        encoded = [(artefact, encode(artefact)) for artefact in outcome.artefacts]
        return tuple(
            {
                "name": artefact.name,
                "kind": artefact.kind,
                "media_type": file.media_type,
                "blob": self._core.blobs.put(file.content),
                "shape": artefact.values.shape,
                "geometry": artefact.geometry,
            }
            for artefact, file in encoded
        )


def _output(output: Output) -> dict[str, Any]:
    shown = ("name", "system", "code", "kind", "value", "unit", "band")
    detail = None if output.detail is None else as_plain(output.detail)
    return {name: getattr(output, name) for name in shown} | {"detail": detail}


def _stored_output(stored: Mapping[str, Any], manifest: Manifest) -> Output:
    """Return an output of an earlier result as far as it is stored; earlier releases stored no details."""
    plain, is_whole = stored.get("detail"), stored["kind"] in {"score", "probability", "category"}
    return Output(
        name=stored["name"],
        system=stored["system"],
        code=stored["code"],
        display=next((one.display for one in manifest.outputs if one.code == stored["code"]), stored["name"]),
        kind=stored["kind"],
        value=stored["value"] if is_whole or plain is not None else None,
        unit=stored["unit"],
        band=stored["band"],
        text="",
        future=False,
        detail=None if plain is None else from_plain(stored["kind"], plain),
    )


def _feature(feature: FeatureUse) -> dict[str, Any]:
    # Decimals are written as text, digit for digit.
    return asdict(feature) | {"value": None if feature.value is None else str(feature.value)}
