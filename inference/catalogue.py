"""The declarations of the models that run: their rows, and the manifests that were registered with them."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection

from inference import registry
from inference.features.spec import FeatureSpec
from inference.manifest import Manifest
from inference.registry import ModelRow
from kernel.db import Transaction


@dataclass(frozen=True, kw_only=True)
class DeclaredModel:
    """A registered version together with what it has declared."""

    row: ModelRow
    manifest: Manifest
    features: tuple[FeatureSpec, ...]

    @property
    def codes(self) -> frozenset[str]:
        """Every code that one of its features reads."""
        return frozenset(code for feature in self.features for code in feature.codes)

    @property
    def lookback(self) -> timedelta:
        """Length of its longest window."""
        return max((feature.lookback for feature in self.features), default=timedelta(0))


class Catalogue:
    """The models that run, with their declarations.

    They are read from the registry, not from the folders: a model whose folder was altered or lost is still run, and
    the runtime's refusal becomes a visible result.
    """

    def __init__(self) -> None:
        self._declared: dict[str, tuple[Manifest, tuple[FeatureSpec, ...]]] = {}
        self._serving: tuple[object, tuple[DeclaredModel, ...]] = (None, ())

    def serving(self, connection: Connection) -> tuple[DeclaredModel, ...]:
        """Return the active and shadow models; read again only when a row of the registry has changed."""
        return self._serving_at(registry.state(connection), connection)

    def serving_in(self, tx: Transaction) -> tuple[DeclaredModel, ...]:
        """Return what :meth:`serving` does; asked once for the transactions that commit together."""
        return self._serving_at(registry.state_in(tx), tx.connection)

    def _serving_at(self, state: object, connection: Connection) -> tuple[DeclaredModel, ...]:
        previous_state, models = self._serving
        if state != previous_state:
            models = tuple(self.of(row) for row in registry.serving(connection))
            self._serving = (state, models)
        return models

    def one(self, connection: Connection, name: str, version: str) -> DeclaredModel | None:
        """Return one version, or none when it is not registered.

        Parameters
        ----------
        connection
            A connection to read from.
        name, version
            The model, as in its manifest.
        """
        row = registry.get(connection, name, version)
        return None if row is None else self.of(row)

    def to_run(self, connection: Connection, name: str, version: str) -> DeclaredModel | None:
        """Return the version that a job names or, when it was retired meanwhile, the one that is active in its place.

        Parameters
        ----------
        connection
            A connection to read from.
        name, version
            The model that the job was enqueued for.
        """
        row = registry.get(connection, name, version)
        if row is not None and row.status == "retired":
            row = next((other for other in registry.active(connection) if other.name == name), row)
        return None if row is None else self.of(row)

    def of(self, row: ModelRow) -> DeclaredModel:
        """Return a row together with what it has declared, which is read once."""
        if row.digest not in self._declared:
            self._declared[row.digest] = registry.declared(row)
        manifest, features = self._declared[row.digest]
        return DeclaredModel(row=row, manifest=manifest, features=features)
