"""The consortium's side: a Flower ServerApp that coordinates the rounds and never receives patient data.

Round 0 adds the hospitals' sums, so that all hospitals standardise their inputs in the same way: on these data that
improves the result more than any refinement of the averaging. The later rounds are Flower's weighted federated
averaging (McMahan and others 2017), and each round is reported when it is done.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from federated import task
from federated.client_app import CONFIG, METRICS, read_measured, to_numpy, to_record, write_config
from kernel.errors import Category, Problem


@dataclass(frozen=True, kw_only=True)
class SiteReport:
    """One hospital in one round."""

    site: str
    #: Number of its training patients, which is its weight.
    examples: int
    #: The federated model on its test patients; None in round 0.
    federated: task.Measured | None
    #: Its own model on the same patients, trained with the same number of steps.
    alone: task.Measured


@dataclass(frozen=True, kw_only=True)
class RoundReport:
    """The report of one round, for the ledger and for display."""

    #: 0 is the round of sums.
    round: int
    kind: Literal["statistics", "training"]
    sites: tuple[SiteReport, ...]
    #: SHA-256 of the round's output: the scaling in round 0, the parameters after it.
    digest: str
    #: SHA-256 of the output of the round before; None in round 0.
    previous: str | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The settings of a training run."""

    rounds: int
    descent: task.Descent
    #: Flower's node id -> hospital, in the order in which they are listed.
    sites: Mapping[int, str]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The result of a training run."""

    scaling: task.Scaling
    parameters: task.Parameters


def server_app(plan: Plan, report: Callable[[RoundReport], None], finish: Callable[[Trained], None]) -> Any:
    """Build the ServerApp.

    Parameters
    ----------
    plan
        The settings of the run.
    report
        Called after every round; an exception from it ends the training.
    finish
        Called with the result.

    Returns
    -------
    flwr.serverapp.ServerApp
        To be run by a SuperLink, or directly with a :class:`federated.grid.LocalGrid`.
    """

    def main(grid: Grid, _context: Context) -> None:
        scaling, first = _first_round(grid, plan)
        report(first)
        result = ReportedFedAvg(plan, first, report).start(
            grid=grid,
            initial_arrays=to_record(task.start()),
            num_rounds=plan.rounds,
            train_config=write_config(plan.descent, scaling),
            evaluate_config=write_config(plan.descent, scaling),
        )
        finish(Trained(scaling=scaling, parameters=to_numpy(result.arrays)))

    app = ServerApp()
    app.main()(main)
    return app


class ReportedFedAvg(FedAvg):  # type: ignore[misc]  # Flower is not followed by the type checker
    """Flower's weighted federated averaging, every hospital in every round, each round reported.

    Parameters
    ----------
    plan
        The settings of the run, with the sites that take part.
    first
        The report of round 0.
    report
        Called after every round.
    """

    def __init__(self, plan: Plan, first: RoundReport, report: Callable[[RoundReport], None]) -> None:
        everybody = len(plan.sites)
        super().__init__(min_train_nodes=everybody, min_evaluate_nodes=everybody, min_available_nodes=everybody)
        self._plan = plan
        self._report = report
        self._last = first
        self._digest = ""

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[Any, Any]:
        """Average the parameters, in a fixed order, so that a run can be repeated bit for bit.

        Parameters
        ----------
        server_round
            Number of the round, from 1.
        replies
            The replies of all sites, in any order.

        Returns
        -------
        tuple
            Flower's ArrayRecord of the averaged parameters, and its MetricRecord.

        Raises
        ------
        Problem
            ``unavailable`` when a site did not reply.
        """
        arrays, metrics = super().aggregate_train(server_round, _in_order(replies, self._plan))
        self._digest = task.digest(to_numpy(arrays))
        return arrays, metrics

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> Any:
        """Report the round; parameters and errors as for :meth:`aggregate_train`."""
        ordered = _in_order(replies, self._plan)
        sites = tuple(
            SiteReport(
                site=before.site,
                examples=before.examples,
                federated=read_measured(reply.content[METRICS]),
                alone=before.alone,
            )
            for before, reply in zip(self._last.sites, ordered, strict=True)
        )
        previous = self._last.digest
        self._last = RoundReport(
            round=server_round, kind="training", sites=sites, digest=self._digest, previous=previous
        )
        self._report(self._last)
        return super().aggregate_evaluate(server_round, ordered)


def _first_round(grid: Any, plan: Plan) -> tuple[task.Scaling, RoundReport]:
    """Compute the common scaling from the hospitals' sums, and evaluate each hospital's own model."""
    replies = _query_sites(grid, plan, "query.sums", RecordDict())
    parts = {site: _read_sums(reply) for site, reply in replies.items()}
    first, *others = parts.values()
    scaling = sum(others, start=first).scaling()
    full = task.Descent(steps=plan.descent.steps * plan.rounds, rate=plan.descent.rate)
    replies = _query_sites(grid, plan, "query.alone", RecordDict({CONFIG: write_config(full)}))
    sites = tuple(
        SiteReport(site=site, examples=part.count, federated=None, alone=read_measured(replies[site].content[METRICS]))
        for site, part in parts.items()
    )
    digest = task.digest({"mean": scaling.mean, "scale": scaling.scale})
    return scaling, RoundReport(round=0, kind="statistics", sites=sites, digest=digest, previous=None)


def _query_sites(grid: Any, plan: Plan, kind: str, content: Any) -> dict[str, Any]:
    messages = [Message(content, dst_node_id=node, message_type=kind) for node in plan.sites]
    replies = _in_order(grid.send_and_receive(messages), plan)
    return dict(zip(plan.sites.values(), replies, strict=True))


def _in_order(replies: Iterable[Any], plan: Plan) -> list[Any]:
    """Sort replies in the plan's order of hospitals; a round is valid only when all of them replied.

    Raises
    ------
    Problem
        ``unavailable``, naming the hospitals that did not reply.
    """
    by_node = {reply.metadata.src_node_id: reply for reply in replies if not reply.has_error()}
    absent = [site for node, site in plan.sites.items() if node not in by_node]
    if absent:
        raise Problem(Category.UNAVAILABLE, f"no answer from {', '.join(absent)}")
    return [by_node[node] for node in plan.sites]


def _read_sums(reply: Any) -> task.Sums:
    (arrays,) = reply.content.array_records.values()
    values = to_numpy(arrays)
    return task.Sums(
        count=int(reply.content[METRICS]["num-examples"]),
        of_values=values["of_values"],
        of_squares=values["of_squares"],
    )
