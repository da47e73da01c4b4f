"""A Flower grid within one process: it runs the same ServerApp and ClientApps as a network does, without a network.

Flower's own simulation needs Ray (186 MB installed), and its entry point from Python is deprecated; a hospital's trial
run should need neither. Each message is serialised to Flower's wire format and back between the two sides, so that
content that cannot be sent over a network fails here too. Nothing here opens a socket.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from flwr.app import Context, Error, Message, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from kernel.log import get_logger

SERVER_NODE: Final = 1
_CLIENT_FAILED: Final = 4

_log = get_logger(__name__)


class LocalGrid(Grid):  # type: ignore[misc]  # Flower is not followed by the type checker
    """Calls each hospital's ClientApp in turn.

    Parameters
    ----------
    app
        The ClientApp.
    nodes
        Node id -> the configuration that the node's Context holds.
    """

    def __init__(self, app: Any, nodes: Mapping[int, Mapping[str, str]]) -> None:
        self._app = app
        self._contexts = {
            node: Context(run_id=1, node_id=node, node_config=dict(config), state=RecordDict(), run_config={})
            for node, config in nodes.items()
        }
        self._replies: dict[str, Any] = {}
        self._sent = 0

    @property
    def run(self) -> Any:
        """Not available: there is no run record."""
        raise NotImplementedError

    def set_run(self, run: Any) -> None:
        """There is no run record to set."""

    def create_message(self, *args: Any, **kwargs: Any) -> Any:
        """Not available: Flower replaced it by the Message constructor.

        Parameters
        ----------
        *args, **kwargs
            Ignored.
        """
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of all nodes."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Any]) -> Iterable[str]:
        """Deliver messages and store the replies; returns the messages' ids."""
        names = []
        for message in messages:
            self._sent += 1
            name = str(self._sent)
            message.metadata.__dict__["_message_id"] = name  # as Flower's own grids do
            self._replies[name] = self._answer(message)
            names.append(name)
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Any]:
        """Return the replies to these messages, each once."""
        return [self._replies.pop(name) for name in message_ids if name in self._replies]

    def send_and_receive(self, messages: Iterable[Any], *, timeout: float | None = None) -> Iterable[Any]:  # noqa: ARG002 - Flower's signature
        """Deliver messages and return the replies.

        Parameters
        ----------
        messages
            Flower Messages with a destination node.
        timeout
            Ignored: every reply is computed before this returns.
        """
        return self.pull_messages(self.push_messages(messages))

    def _answer(self, message: Any) -> Any:
        received = _over_the_wire(message)
        node = message.metadata.dst_node_id
        try:
            reply = self._app(received, self._contexts[node])
        except Exception as failure:  # noqa: BLE001 - as over a network, a site's failure is a reply
            _log.warning("federated_site_failed", node=node, failure=failure)
            reply = Message(Error(code=_CLIENT_FAILED, reason=type(failure).__name__), reply_to=received)
        return _over_the_wire(reply)


@contextmanager
def flower_here() -> Iterator[None]:
    """Set the identity that Flower's messages need, and silence Flower's log, until the block ends."""
    logger = logging.getLogger("flwr")
    level = logger.level
    identity = TaskIdentity._run_id, TaskIdentity._node_id, TaskIdentity._task_id  # noqa: SLF001 - it has no reader that allows for none
    logger.setLevel(logging.ERROR)
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, SERVER_NODE, 1
    try:
        yield
    finally:
        logger.setLevel(level)
        TaskIdentity._run_id, TaskIdentity._node_id, TaskIdentity._task_id = identity  # noqa: SLF001 - as above


def _over_the_wire(message: Any) -> Any:
    """Serialise a message to Flower's wire format and parse it again."""
    return message_from_proto(message_to_proto(message))
