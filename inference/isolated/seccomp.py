"""The system calls that a process with a model's code may make: a list, enforced by the kernel (seccomp-BPF).

Every other call fails with EPERM: there is no socket, no process, no program, no signal and no file that is written.
The filter holds for the process and all its threads, and cannot be taken off.
"""

import ctypes
import platform
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from inference.isolated.libc import NotIsolated, prctl

_PR_SET_SECCOMP: Final = 22
_FILTER: Final = 2

#: linux/audit.h
_X86_64: Final = 0xC000003E
#: Calls of the x32 form have this bit; none is listed.
_KILL: Final = 0x80000000
_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_EPERM: Final = 1
_ENOSYS: Final = 38

#: linux/bpf_common.h: load a word, jump if equal, jump if a bit is set, return.
_LOAD: Final = 0x20
_EQUAL: Final = 0x15
_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06

#: Offsets in struct seccomp_data.
_NUMBER: Final = 0
_ARCHITECTURE: Final = 4
_ARGUMENTS: Final = 16

ALLOWED: Final[Mapping[str, int]] = MappingProxyType(
    {
        # Descriptors that are open already.
        "read": 0,
        "write": 1,
        "close": 3,
        "fstat": 5,
        "lseek": 8,
        "pread64": 17,
        "readv": 19,
        "writev": 20,
        "dup": 32,
        "pipe2": 293,
        "eventfd2": 290,
        "poll": 7,
        "ppoll": 271,
        "select": 23,
        "pselect6": 270,
        # Names and folders; Landlock says which files may be opened.
        "stat": 4,
        "lstat": 6,
        "access": 21,
        "getcwd": 79,
        "readlink": 89,
        "getdents64": 217,
        "newfstatat": 262,
        "readlinkat": 267,
        "faccessat": 269,
        "statx": 332,
        "faccessat2": 439,
        # Memory.
        "mprotect": 10,
        "munmap": 11,
        "brk": 12,
        "mremap": 25,
        "mincore": 27,
        "madvise": 28,
        # Threads of the same process.
        "rt_sigaction": 13,
        "rt_sigprocmask": 14,
        "rt_sigreturn": 15,
        "sigaltstack": 131,
        "sched_yield": 24,
        "futex": 202,
        "sched_getaffinity": 204,
        "set_robust_list": 273,
        "set_tid_address": 218,
        "membarrier": 324,
        "rseq": 334,
        "gettid": 186,
        "getcpu": 309,
        # Time.
        "nanosleep": 35,
        "gettimeofday": 96,
        "times": 100,
        "clock_gettime": 228,
        "clock_getres": 229,
        "clock_nanosleep": 230,
        "restart_syscall": 219,
        # What the process is.
        "getpid": 39,
        "getppid": 110,
        "getuid": 102,
        "getgid": 104,
        "geteuid": 107,
        "getegid": 108,
        "uname": 63,
        "sysinfo": 99,
        "getrlimit": 97,
        "getrusage": 98,
        "getrandom": 318,
        "exit": 60,
        "exit_group": 231,
    }
)
"""Name -> number on x86_64 of the calls that are allowed whatever their arguments are."""

_MMAP: Final = 9
_OPENAT: Final = 257
_FCNTL: Final = 72
_CLONE: Final = 56
_CLONE3: Final = 435
_PRLIMIT64: Final = 302

_WRITES: Final = 0o3 | 0o100 | 0o1000 | 0o20000000
"""Flags of open(2): write access, O_CREAT, O_TRUNC, O_TMPFILE."""
_MAP_SHARED: Final = 0x01
"""Also a bit of MAP_SHARED_VALIDATE. The limit of memory counts private memory only."""
_CLONE_THREAD: Final = 0x00010000
_FCNTL_COMMANDS: Final = (0, 1, 2, 3, 4, 1030)
"""F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC: none that sends a signal."""


@dataclass(frozen=True)
class _Step:
    """One instruction of the filter (struct sock_filter)."""

    code: int
    value: int
    #: Instructions to skip when a comparison holds, and when not.
    holds: int = 0
    fails: int = 0

    def packed(self) -> bytes:
        return struct.pack("=HBBI", self.code, self.holds, self.fails, self.value)


def restrict() -> None:
    """Allow the calling process the listed system calls and no other.

    ``PR_SET_NO_NEW_PRIVS`` must be set.

    Raises
    ------
    NotIsolated
        When this is another processor than x86_64, or the kernel has no seccomp.
    """
    if platform.machine() != "x86_64":
        raise NotIsolated(f"the list of system calls is for x86_64, not {platform.machine()}")
    steps = _program()
    content = ctypes.create_string_buffer(b"".join(step.packed() for step in steps))
    # struct sock_fprog: the number of instructions, and where they are.
    program = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(content)))
    prctl(_PR_SET_SECCOMP, _FILTER, ctypes.c_void_p(ctypes.addressof(program)))


def _program() -> Sequence[_Step]:
    allow, refuse = _Step(_RETURN, _ALLOW), _Step(_RETURN, _ERRNO | _EPERM)
    steps = [
        _Step(_LOAD, _ARCHITECTURE),
        _Step(_EQUAL, _X86_64, holds=1),
        _Step(_RETURN, _KILL),
        _Step(_LOAD, _NUMBER),
    ]
    for number in ALLOWED.values():
        steps += [_Step(_EQUAL, number, fails=1), allow]
    # The C library tries clone3 first, whose flags a filter cannot read, and then clone.
    steps += [_Step(_EQUAL, _CLONE3, fails=1), _Step(_RETURN, _ERRNO | _ENOSYS)]
    steps += _when(_OPENAT, (_argument(2), _Step(_ANY_BIT, _WRITES, fails=1), refuse, allow))
    steps += _when(_MMAP, (_argument(3), _Step(_ANY_BIT, _MAP_SHARED, fails=1), refuse, allow))
    steps += _when(_CLONE, (_argument(0), _Step(_ANY_BIT, _CLONE_THREAD, fails=1), allow, refuse))
    commands = [part for one in _FCNTL_COMMANDS for part in (_Step(_EQUAL, one, fails=1), allow)]
    steps += _when(_FCNTL, (_argument(1), *commands, refuse))
    # Limits may be read; to set one is the third argument, a pointer.
    both = (_argument(2), _Step(_EQUAL, 0, holds=1), refuse, _argument(2, high=True), _Step(_EQUAL, 0, holds=1), refuse)
    steps += _when(_PRLIMIT64, (*both, allow))
    return [*steps, refuse]


def _when(number: int, then: Sequence[_Step]) -> Sequence[_Step]:
    """Return the steps for one call; each way through them must end in a return."""
    return (_Step(_EQUAL, number, fails=len(then)), *then)


def _argument(place: int, *, high: bool = False) -> _Step:
    """Return the step that loads one half of an argument of 64 bits."""
    return _Step(_LOAD, _ARGUMENTS + 8 * place + (4 if high else 0))
