"""The console: pages for the people who are responsible for the models.

A clinician sees a result with its inputs, an integration engineer what is parked and why, a compliance officer who
accessed which data. Pages are rendered on the server: no script runs in the browser, and nothing is loaded from
other servers.
"""

from service.console.routes import console_router
from service.console.services import ConsoleData, ConsoleServices

__all__ = ["ConsoleData", "ConsoleServices", "console_router"]
