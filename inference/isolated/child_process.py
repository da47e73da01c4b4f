"""One running process with a model's code, seen from the server: started, asked, ended."""

import builtins
import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.folder import CODE
from inference.isolated.child import CPU_SECONDS, MIB
from inference.isolated.messages import Malformed, Message, receive
from inference.isolated.pipes import Line, widen

START_S: Final = 120.0
"""Seconds in which the code must be loaded; libraries take some on a busy machine."""
_END_S: Final = 10.0
_MOST_NUMBERS: Final = 1 << 16
"""Numbers in an answer for one item."""

_PROGRAM: Final = (
    "import sys; sys.path.insert(0, {root!r}); from inference.isolated.child import main; "
    "sys.path.remove({root!r}); main(sys.argv[1])"
)
_ROOT: Final = str(Path(__file__).resolve().parents[2])

_ENVIRONMENT: Final = {
    "LC_ALL": "C.UTF-8",
    # Libraries ask who they are and where they may write; the list of users cannot be read, and nothing written.
    "USER": "model",
    "HOME": "/nonexistent",
    "TMPDIR": "/nonexistent",
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
}


@dataclass(frozen=True, kw_only=True)
class ProcessLimits:
    """What the code of a model may use."""

    #: MiB that it may write to.
    memory_mb: int = 1024
    #: For one batch.
    seconds: float = 10.0


class Ended(Exception):
    """The process does not answer any more; the message says why and is safe to show."""


class Refused(Exception):
    """The machine cannot isolate a process; the message says what it lacks."""


class CodeFailed(Exception):
    """The model's code raised an exception; the message names its type and its line.

    Parameters
    ----------
    where
        Type and line.
    said
        The words of the exception, for an engineer; empty where they may hold a patient's values.
    """

    def __init__(self, where: str, said: str = "") -> None:
        super().__init__(where)
        self.said = said


class ChildProcess:
    """A process that has loaded the code of a model.

    It is stopped (SIGSTOP) while it is not asked: nothing of it runs but for a batch.

    The thread that makes it must live as long as it is needed: when that thread ends, the kernel ends the process.

    Parameters
    ----------
    limits
        What it may use.
    """

    def __init__(self, limits: ProcessLimits) -> None:
        self._limits = limits
        requests, requested = os.pipe()
        answered, answers = os.pipe()
        self._line = Line(answered, requested)
        widen(requested)
        packages = [path for path in sys.path if Path(path).name in {"site-packages", "dist-packages"}]
        given = {
            "parent": os.getpid(),
            "memory": limits.memory_mb * MIB,
            "python": [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")],
            "packages": packages,
            "file": CODE,
            "answers": answers,
        }
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-I", "-S", "-B", "-c", _PROGRAM.format(root=_ROOT), json.dumps(given)],
                stdin=requests,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(answers,),
                cwd="/",
                env=_ENVIRONMENT,
                start_new_session=True,
            )
        except BaseException:
            self._line.close()
            raise
        finally:
            os.close(requests)
            os.close(answers)
        self._resident_at_start = 0
        #: How many it was asked: an answer names its batch, so that one too many is not taken for the next.
        self._batches = 0

    def load(self, files: Mapping[str, bytes]) -> None:
        """Have the code loaded.

        Parameters
        ----------
        files
            Of the folder, as they were verified; name with slashes -> content.

        Raises
        ------
        Ended, Refused, CodeFailed
            When it is not loaded.
        """
        lengths = {name: len(content) for name, content in files.items()}
        message = Message(words={"files": lengths}, content=b"".join(files.values()))
        answer = self._exchange(message, START_S, 0)
        if "not_isolated" in answer.words:
            raise Refused(str(answer.words["not_isolated"]))
        if "failed" in answer.words:
            raise CodeFailed(_known(answer.words["failed"]), str(answer.words.get("said", ""))[:500])
        self._resident_at_start = self._resident()
        self._pause()

    def ask(self, items: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the numbers of a batch.

        Parameters
        ----------
        items
            (items, ...).

        Raises
        ------
        Ended
            When it has died, is late, or gave no array.
        CodeFailed
            When the code raised an exception.
        MemoryError
            When the code had not enough memory.
        """
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGCONT)
        flat = np.ascontiguousarray(items, dtype=np.float64).reshape(-1)
        self._batches += 1
        words = {"shape": list(items.shape), "number": self._batches}
        sent = Message(words=words, content=flat.view(np.uint8).data)
        answer = self._exchange(sent, self._limits.seconds, 8 * _MOST_NUMBERS * len(items))
        if answer.words.get("number") != self._batches:
            raise Ended("the model gave an answer that does not belong to the batch")
        self._pause()
        if "memory" in answer.words:
            raise MemoryError
        if "failed" in answer.words:
            raise CodeFailed(_known(answer.words["failed"]))
        return _array(answer)

    @property
    def is_worn(self) -> bool:
        """Whether it uses half of the memory that it had left after loading, or half of its time of the processor."""
        left = self._limits.memory_mb * MIB - self._resident_at_start
        return self._resident() > self._resident_at_start + left / 2 or self._cpu_seconds() > CPU_SECONDS / 2

    def end(self) -> None:
        """End the process at once, whatever it does."""
        with suppress(ProcessLookupError):
            self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        self._line.close()

    def kill(self) -> None:
        """Send SIGKILL only; whoever waits for an answer finds that it has ended."""
        with suppress(ProcessLookupError):
            self._process.kill()

    def _exchange(self, message: Message, seconds: float, most: int) -> Message:
        deadline = time.monotonic() + seconds
        try:
            with suppress(BrokenPipeError):  # it may have said why before it ended
                for part in message.encoded():
                    self._line.send(part, deadline)
            return receive(lambda count: self._line.receive(count, deadline), most)
        except TimeoutError:
            raise Ended(f"the model did not answer within {seconds:g} seconds") from None
        except (EOFError, OSError):
            raise Ended(f"the process of the model ended{self._how()}") from None
        except Malformed as failure:
            raise Ended(f"the model answered in no form that is known ({failure})") from None

    def _how(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            code = self._process.wait(_END_S)
            return f" by {signal.Signals(-code).name}" if code < 0 else ""
        return ""

    def _pause(self) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGSTOP)

    def _resident(self) -> int:
        """Return the bytes in memory; 0 when it has ended."""
        try:
            pages = int(Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii").split()[1])
        except (OSError, IndexError):
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    def _cpu_seconds(self) -> float:
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _known(where: object) -> str:
    """Return type and line of an exception as the process states them, if it is one of Python's own.

    Any other word may hold what the model was given.
    """
    found = re.fullmatch(r"([A-Za-z]+)( in model\.py, line \d{1,6})?", str(where))
    if found is None or found[1] not in vars(builtins):
        return "an exception that is not one of Python's"
    return found[0]


def _array(answer: Message) -> NDArray[np.float64]:
    shape: Sequence[object] = answer.words.get("shape", ())
    if not (isinstance(shape, list) and len(shape) == 2 and all(type(one) is int and one >= 0 for one in shape)):
        raise Ended("the model gave no row of numbers for each input")
    if 8 * shape[0] * shape[1] != len(answer.content):
        raise Ended("the model gave another number of numbers than it stated")
    numbers: NDArray[np.float64] = np.frombuffer(answer.content, dtype=np.float64).reshape(shape)
    return numbers
