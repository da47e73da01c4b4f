"""The program of the process in which the code of a model runs.

It takes every right from itself before it receives the first byte of the model: then it loads the model's code, and
answers one batch after the other until its parent closes its standard input.

``model.py`` defines ``load(files)``, which is called once with the files of the folder (name -> bytes), and returns a
function from an array of items (items, ...) to an array of numbers (items, numbers).
"""

import json
import os
import resource
import sys
from collections.abc import Callable
from typing import Any, Final

from inference.isolated import landlock, seccomp
from inference.isolated.importing import import_model
from inference.isolated.libc import NotIsolated, prctl
from inference.isolated.messages import Message, receive
from inference.isolated.pipes import filled

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_SIGKILL: Final = 9
_REQUESTS: Final = 0
_ANSWERS: Final = 3
_ANY_SIZE: Final = 1 << 40
MIB: Final = 1 << 20

LIBRARIES: Final = 4096 * MIB
"""Addresses that libraries may take beside the memory of the model: files that are mapped and never written."""
OPEN_FILES: Final = 64
CPU_SECONDS: Final = 3600
"""Of the processor, in the life of one process; it is replaced long before."""

_SYSTEM: Final = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/etc/ld.so.cache",
    "/usr/share/zoneinfo",
    "/dev/null",
    "/dev/urandom",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/sys/devices/system/cpu",
)
"""What libraries read beside the installation of Python; none of it is of this server or of a patient."""


def main(given: str) -> None:
    """Isolate this process, load the model, and answer.

    Parameters
    ----------
    given
        JSON: ``parent`` (its process number), ``memory`` (bytes), ``python`` (folders of Python), ``packages`` (folders
        of packages), ``file`` (which file of the folder is the model's), ``answers`` (descriptor of the pipe for them).
    """
    settings = json.loads(given)
    if settings["answers"] != _ANSWERS:
        os.dup2(settings["answers"], _ANSWERS)
        os.close(settings["answers"])
    try:
        isolate(settings)
    except (NotIsolated, OSError, ValueError) as failure:
        _send(Message(words={"not_isolated": str(failure)}))
        return
    sys.path.extend(settings["packages"])
    try:
        predict = _load(settings["file"])
    except BaseException as failure:  # noqa: BLE001 - whatever the code raises is reported
        _send(Message(words={"failed": _described(failure, settings["file"]), "said": str(failure)[:500]}))
        return
    _send(Message(words={"ready": True}))
    _answer(predict, settings["file"])


def isolate(settings: dict[str, Any]) -> None:
    """Take from this process what a model does not need, for ever.

    Parameters
    ----------
    settings
        As for :func:`main`.

    Raises
    ------
    NotIsolated
        When the kernel does not offer it, or the parent has ended.
    """
    prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    if os.getppid() != settings["parent"]:
        raise NotIsolated("the parent has ended")
    memory = int(settings["memory"])
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_CPU: CPU_SECONDS,
        resource.RLIMIT_DATA: memory,
        resource.RLIMIT_AS: memory + LIBRARIES,
    }
    for kind, value in limits.items():
        resource.setrlimit(kind, (value, value))
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    landlock.restrict((*settings["python"], *settings["packages"], *_SYSTEM))
    seccomp.restrict()
    _check()


def _check() -> None:
    """Try what must be refused: a filter that the kernel took and does not apply is none."""
    import _socket  # noqa: PLC0415 - only to see that it is refused

    for attempt in (_socket.socket, lambda: os.listdir("/etc"), os.fork):  # noqa: PTH208 - to see that it is refused
        try:
            attempt()
        except PermissionError:
            continue
        raise NotIsolated("the kernel accepted the restrictions and does not apply them")


def _load(file: str) -> Callable[[Any], Any]:
    message = receive(_read, _ANY_SIZE)
    files: dict[str, bytes] = {}
    start = 0
    for name, length in message.words["files"].items():
        files[name] = bytes(message.content[start : start + length])
        start += length
    del message
    predict = import_model(files, file).load(files)
    if not callable(predict):
        raise TypeError("load returned no function")
    return predict  # type: ignore[no-any-return]


def _answer(predict: Callable[[Any], Any], file: str) -> None:
    import numpy as np  # noqa: PLC0415 - only once the process is isolated

    while True:
        asked = receive(_read, _ANY_SIZE)
        number = {"number": asked.words["number"]}
        items = np.frombuffer(asked.content, dtype=np.float64).reshape(asked.words["shape"])
        del asked
        try:
            numbers = np.ascontiguousarray(predict(items), dtype=np.float64)
        except MemoryError:
            _send(Message(words={"memory": True, **number}))
        except Exception as failure:  # noqa: BLE001 - whatever the code raises is reported
            _send(Message(words={"failed": _described(failure, file), **number}))
        else:
            _send(Message(words={"shape": list(numbers.shape), **number}, content=numbers.tobytes()))


def _described(failure: BaseException, file: str) -> str:
    """Return the type of a failure and its line; what it says may hold a patient's values."""
    place, at = failure.__traceback__, 0
    while place is not None:
        at = place.tb_lineno if place.tb_frame.f_code.co_filename == file else at
        place = place.tb_next
    return f"{type(failure).__name__[:60]} in {file}, line {at}" if at else f"{type(failure).__name__[:60]}"


def _read(count: int) -> bytearray:
    try:
        return filled(count, lambda into: os.readv(_REQUESTS, [into]))
    except EOFError:
        os._exit(0)  # the parent has closed the pipe


def _send(message: Message) -> None:
    for part in message.encoded():
        content = memoryview(part)
        while content:
            content = content[os.write(_ANSWERS, content) :]
