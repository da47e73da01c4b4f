"""Calls of the kernel that Python does not offer."""

import ctypes
import os

_LIBC = ctypes.CDLL(None, use_errno=True)


class NotIsolated(Exception):
    """The kernel does not offer what the isolation needs; the message says what."""


def prctl(option: int, *arguments: object) -> None:
    """Set a property of the calling process (prctl(2)).

    Parameters
    ----------
    option, *arguments
        As in the manual; integers and pointers.

    Raises
    ------
    NotIsolated
        When the kernel refuses.
    """
    given = [one if isinstance(one, ctypes.c_void_p) else ctypes.c_ulong(one) for one in _four(arguments)]  # type: ignore[arg-type]
    if _LIBC.prctl(ctypes.c_int(option), *given) != 0:
        raise NotIsolated(f"prctl {option}: {os.strerror(ctypes.get_errno())}")


def syscall(number: int, *arguments: object) -> int:
    """Make a system call and return its result, -1 where it failed.

    Parameters
    ----------
    number
        Of the call, on this processor.
    *arguments
        Values of ctypes.
    """
    return int(_LIBC.syscall(ctypes.c_long(number), *arguments))


def _four(arguments: tuple[object, ...]) -> tuple[object, ...]:
    return (*arguments, 0, 0, 0, 0)[:4]
