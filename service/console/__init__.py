"""The console: pages for the people who answer for what the models say.

A clinician sees a result with its inputs, an integration engineer what is stuck and why, a compliance officer who saw
what. Everything is rendered here: no script runs in the browser and nothing is loaded from elsewhere.
"""

from service.console.routes import console_router
from service.console.services import ConsoleData, ConsoleServices

__all__ = ["ConsoleData", "ConsoleServices", "console_router"]
