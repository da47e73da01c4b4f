"""The files that a process with a model's code may read: the installation of Python and its libraries (Landlock).

The process may open nothing else, and write nothing. That a file exists, and how large it is, can still be asked.
"""

import ctypes
import os
import struct
from collections.abc import Iterable
from typing import Final

from inference.isolated.libc import NotIsolated, syscall

_CREATE: Final = 444
_ADD_RULE: Final = 445
_RESTRICT: Final = 446
_VERSION: Final = 1
_BENEATH: Final = 1

#: linux/landlock.h: all rights over files that a version of Landlock can take away.
_FILE_RIGHTS: Final = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF, 5: 0xFFFF}
_READ_FILE: Final = 1 << 2
_READ_FOLDER: Final = 1 << 3
#: To bind and to connect by TCP; since version 4.
_NETWORK: Final = 0b11
#: Sockets without a file, and signals, of processes outside; since version 6.
_SCOPES: Final = 0b11


def version() -> int:
    """Return which version of Landlock the kernel has; below 1 it has none."""
    return syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(_VERSION))


def restrict(readable: Iterable[str]) -> None:
    """Let the calling thread read what lies below some paths, and no other file.

    ``PR_SET_NO_NEW_PRIVS`` must be set.

    Parameters
    ----------
    readable
        Folders and files; one that does not exist is left out.

    Raises
    ------
    NotIsolated
        When the kernel has no Landlock.
    """
    offered = version()
    if offered < 1:
        raise NotIsolated("the kernel has no Landlock (Linux 5.13 or later, with landlock among lsm=)")
    attributes = struct.pack("=Q", _FILE_RIGHTS[min(offered, 5)])
    attributes += struct.pack("=Q", _NETWORK) if offered >= 4 else b""
    attributes += struct.pack("=Q", _SCOPES) if offered >= 6 else b""
    rules = _checked(syscall(_CREATE, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0)))
    try:
        for path in readable:
            _allow(rules, path)
        _checked(syscall(_RESTRICT, ctypes.c_int(rules), ctypes.c_uint(0)))
    finally:
        os.close(rules)


def _allow(rules: int, path: str) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rights = _READ_FILE | (_READ_FOLDER if os.path.isdir(path) else 0)  # noqa: PTH112 - a folder of the system
        beneath = struct.pack("=Qi", rights, handle)
        _checked(syscall(_ADD_RULE, ctypes.c_int(rules), ctypes.c_int(_BENEATH), beneath, ctypes.c_uint(0)))
    finally:
        os.close(handle)


def _checked(result: int) -> int:
    if result < 0:
        raise NotIsolated(f"Landlock: {os.strerror(ctypes.get_errno())}")
    return result
