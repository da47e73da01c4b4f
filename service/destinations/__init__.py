"""Where results go: one file a kind of destination, listed in :data:`DESTINATIONS`.

A destination renders a result into what it sends (pure, at the time of the result, so that every retry sends the same
bytes) and sends it (an effect, from the outbox). Its idempotency keys make a repeated delivery converge at the peer.
"""

from typing import Final

from service.destinations.contract import Destination, Rendered
from service.destinations.ehr import EhrDestination
from service.destinations.engine import EngineDestination
from service.destinations.pacs import PacsDestination

DESTINATIONS: Final = (EhrDestination, EngineDestination, PacsDestination)
"""Every kind of destination."""

__all__ = ["DESTINATIONS", "Destination", "EhrDestination", "EngineDestination", "PacsDestination", "Rendered"]
