"""A federation on one machine: four hospitals, each with its own data, and rounds through Flower's own strategy."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flwr.app import Context, RecordDict

from federated import task
from federated.client_app import client_app
from federated.grid import SERVER_NODE, LocalGrid, flower_here
from federated.server_app import Plan, RoundReport, Trained, server_app

ROUNDS: Final = 20
DESCENT: Final = task.Descent()


@dataclass(frozen=True, kw_only=True)
class SimulationResult:
    """The result of a simulation, with its settings."""

    seed: int
    descent: task.Descent
    #: Round 0 (sums) and every round of training.
    rounds: tuple[RoundReport, ...]
    scaling: task.Scaling
    parameters: task.Parameters

    @property
    def last(self) -> RoundReport:
        """The round whose parameters these are."""
        return self.rounds[-1]


def simulate(
    data: Path, *, rounds: int = ROUNDS, seed: int = 0, report: Callable[[RoundReport], None]
) -> SimulationResult:
    """Train across the four hospitals of the UCI heart disease data.

    Parameters
    ----------
    data
        Folder of the four ``processed.<hospital>.data``.
    rounds
        Rounds of training, at least 1; the round of sums comes before them.
    seed
        Decides which patients are kept for testing; the same seed gives the same result.
    report
        Called after each round, the round of sums included (``rounds + 1`` times); an exception ends the training.

    Raises
    ------
    ValueError
        ``rounds`` is less than 1.
    Problem
        ``not-found`` or ``incorrect`` for the data; ``unavailable`` when a hospital does not reply.
    """
    if rounds < 1:
        raise ValueError("rounds must be at least 1")
    hospitals = {name: task.load_hospital(data, name, seed) for name in task.HOSPITALS}
    sites = dict(enumerate(task.HOSPITALS, start=SERVER_NODE + 1))
    reports: list[RoundReport] = []
    results: list[Trained] = []

    def note(finished: RoundReport) -> None:
        report(finished)
        reports.append(finished)

    clients = client_app(lambda context: hospitals[context.node_config["site"]])
    server = server_app(Plan(rounds=rounds, descent=DESCENT, sites=sites), note, results.append)
    with flower_here():
        grid = LocalGrid(clients, {node: {"site": site} for node, site in sites.items()})
        server(grid, Context(run_id=1, node_id=SERVER_NODE, node_config={}, state=RecordDict(), run_config={}))
    (trained,) = results
    return SimulationResult(
        seed=seed, descent=DESCENT, rounds=tuple(reports), scaling=trained.scaling, parameters=trained.parameters
    )
