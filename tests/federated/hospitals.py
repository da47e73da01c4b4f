"""Synthetic hospitals, and a federation of them that records every message."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from flwr.app import Context, RecordDict

from federated import task
from federated.client_app import client_app
from federated.grid import SERVER_NODE, LocalGrid, flower_here
from federated.server_app import Plan, RoundReport, Trained, server_app

WIDTH = len(task.FEATURES)


def made_up(name: str, patients: int, seed: int, *, shift: float = 0.0) -> task.Hospital:
    """Patients whose disease depends on their inputs; hospitals differ in size and by a shift."""
    random = np.random.default_rng(seed)
    truth = np.linspace(-1.0, 1.0, WIDTH)

    def part(count: int) -> task.Part:
        inputs = random.normal(shift, 1.0 + shift, size=(count, WIDTH))
        return task.Part(inputs=inputs, labels=inputs @ truth + random.normal(size=count) > 0)

    return task.Hospital(name=name, train=part(patients), test=part(patients // 2))


class RecordingGrid(LocalGrid):
    """Records the messages from the hospitals to the server."""

    replies: list[Any]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Any]:
        """Return the answers, and record them."""
        pulled = list(super().pull_messages(message_ids))
        self.__dict__.setdefault("replies", []).extend(pulled)
        return pulled


def federate(
    hospitals: Sequence[task.Hospital], *, rounds: int, descent: task.Descent, app: Any = None
) -> tuple[Trained, list[RoundReport], list[Any]]:
    """Train across synthetic hospitals; returns the result, the reports and every reply."""
    by_name = {hospital.name: hospital for hospital in hospitals}
    sites = dict(enumerate(by_name, start=SERVER_NODE + 1))
    reports: list[RoundReport] = []
    made: list[Trained] = []
    clients = app or client_app(lambda context: by_name[context.node_config["site"]])
    with flower_here():
        grid = RecordingGrid(clients, {node: {"site": site} for node, site in sites.items()})
        server = server_app(Plan(rounds=rounds, descent=descent, sites=sites), reports.append, made.append)
        server(grid, Context(run_id=1, node_id=SERVER_NODE, node_config={}, state=RecordDict(), run_config={}))
    return made[0], reports, grid.replies
