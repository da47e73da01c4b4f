"""Operations: what a person may change on a running server, one function each.

Commands, the console and the API call the same function. It asks whether the principal may, acts, and records the
AuditEvent in the commit that acts.
"""

from service.operations.context import OperationContext

__all__ = ["OperationContext"]
