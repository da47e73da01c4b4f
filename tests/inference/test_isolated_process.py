"""What the code of a model may not do: the kernel refuses it, whatever library asks."""

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.isolated import child, landlock, seccomp
from inference.isolated.child_process import ChildProcess
from inference.isolated.keeper import Keeper
from inference.isolated.libc import NotIsolated
from inference.isolated.messages import Message
from kernel.errors import Category, Problem

from .code_models import ROW, SUM, Models, needs_isolation, pid, predicting, state, wait_until

ATTEMPTS = {
    "open a socket": "import socket; socket.socket()",
    "open a socket of the machine": "import socket; socket.socket(socket.AF_UNIX)",
    "make a pair of sockets": "import socket; socket.socketpair()",
    "look up a name": "import _socket; _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)",
    "use a descriptor as a socket": "import socket; socket.socket(fileno=os.dup(0))",
    "read the passwords": "open('/etc/passwd').read()",
    "list a folder": "os.listdir('/etc')",
    "read its environment": "open('/proc/self/environ').read()",
    "read the environment of the server": "open(f'/proc/{os.getppid()}/environ').read()",
    "read the memory of the server": "open(f'/proc/{os.getppid()}/mem', 'rb').read(1)",
    "write a file": "open('/tmp/written', 'w')",
    "write into the installation": "open(os.__file__, 'a')",
    "write to a device": "open('/dev/null', 'w')",
    "make a folder": "os.mkdir('/tmp/made')",
    "remove a file": "os.unlink('/tmp/anything')",
    "take memory that is shared, and not limited": "import mmap; mmap.mmap(-1, 1 << 20)",
    "make a file in memory": "os.memfd_create('x')",
    "fork": "os.fork()",
    "run a program": "import subprocess; subprocess.run([sys.executable, '-c', ''])",
    "become a program": "os.execv(sys.executable, [sys.executable, '-c', ''])",
    "kill the server": "os.kill(os.getppid(), 9)",
    "stop itself": "os.kill(os.getpid(), 19)",
    "set its limits": "call(160, 7, 1 << 33)",
    "set its limits by the newer call": "call(302, 0, 7, 1 << 33, 0)",
    "trace the server": "call(101, 16, os.getppid(), 0, 0)",
    "read the server's memory": "call(310, os.getppid(), 0, 0, 0, 0, 0)",
    "take a descriptor of the server": "call(438, 0, 0, 0)",
    "set up io_uring": "call(425, 8, 0)",
    "have a signal sent": "import fcntl; fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid())",
    "live longer than the server": "call(157, 1, 0, 0, 0, 0)",
    "use the other form of calls": "call(0x40000000 + 41, 1, 1, 0)",
}
"""What a model tries -> how; each must be refused by the kernel."""

PROBE = """
def call(number, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments)) < 0:
        raise OSError(ctypes.get_errno(), "refused")
"""

IS_OPEN = """
def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
"""


@needs_isolation
class TestIsolation:
    @pytest.mark.parametrize("attempt", ATTEMPTS)
    def test_the_kernel_refuses(self, keep: Callable[..., Keeper], attempt: str) -> None:
        body = f"""
            try:
                {ATTEMPTS[attempt]}
            except OSError as failure:
                return np.array([[failure.errno]])
            return np.array([[0]])
        """
        keeper = keep(predicting(body, before=PROBE))
        assert keeper.ask(ROW)[0, 0] in {errno.EPERM, errno.EACCES}
        assert keeper.ask(ROW)[0, 0] in {errno.EPERM, errno.EACCES}, "the same process goes on"

    def test_it_cannot_read_the_folder_of_the_server(self, keep: Callable[..., Keeper], tmp_path: Path) -> None:
        (tmp_path / "keys.json").write_text("secret")
        body = f"""
            try:
                open({str(tmp_path / "keys.json")!r}).read()
            except PermissionError:
                return np.array([[1.0]])
            return np.array([[0.0]])
        """
        assert keep(predicting(body)).ask(ROW) == [[1.0]]

    def test_it_inherits_no_environment_and_no_descriptor(
        self, keep: Callable[..., Keeper], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("AUSCULTA_SECRET", "x")
        with (tmp_path / "open").open("w") as file:
            os.set_inheritable(file.fileno(), True)
            body = """
                open_ones = [fd for fd in range(64) if is_open(fd)]
                return np.array([[float(open_ones == [0, 1, 2, 3]), float("SECRET" not in str(os.environ))]])
            """
            assert keep(predicting(body, before=IS_OPEN)).ask(ROW).tolist() == [[1.0, 1.0]]

    def test_its_limits_are_those_that_are_declared(self, keep: Callable[..., Keeper]) -> None:
        body = """
            import resource
            return np.array([[float(one) for name in rows[0] for one in resource.getrlimit(int(name))]])
        """
        kinds = [resource.RLIMIT_DATA, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE, resource.RLIMIT_NOFILE]
        found = keep(predicting(body), memory_mb=700).ask(np.array([kinds], dtype=np.float64))
        assert found.tolist() == [[700 * 2**20] * 2 + [0, 0, 0, 0] + [child.OPEN_FILES] * 2]

    def test_the_code_is_isolated_before_its_first_line_runs(self, keep: Callable[..., Keeper]) -> None:
        with pytest.raises(Problem, match=r"cannot be loaded: PermissionError in model.py, line 1"):
            keep("import socket; socket.socket()").ask(ROW)

    def test_it_does_not_run_between_two_batches(self, models: Models) -> None:
        runner = models.load(predicting("return rows[:, :1]"))
        assert runner._keeper is not None
        process = pid(runner._keeper)
        wait_until(lambda: state(process) == "T", "it is stopped")
        runner.predict(ROW)
        wait_until(lambda: state(process) == "T", "it is stopped again")

    def test_it_ends_with_the_server(self, tmp_path: Path) -> None:
        program = (
            "from inference.isolated.keeper import Keeper, ProcessLimits\nimport numpy as np, sys, threading\n"
            "keeper = Keeper('tiny', lambda: {'model.py': sys.argv[1].encode()}, ProcessLimits())\n"
            "keeper.ask(np.zeros((1, 2)))\n"
            "print(keeper._child.result()._process.pid, flush=True)\nthreading.Event().wait()\n"
        )
        server = subprocess.Popen(
            [sys.executable, "-c", program, predicting("return rows[:, :1]")],
            cwd=Path(child.__file__).parents[2],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert server.stdout is not None
        process = int(server.stdout.readline())
        assert state(process) != ""
        server.kill()
        server.wait()
        server.stdout.close()
        wait_until(lambda: state(process) in {"", "Z"}, "the kernel ends it")

    def test_it_ends_when_the_model_is_unloaded(self, models: Models) -> None:
        runner = models.load(predicting("return rows[:, :1]"))
        assert runner._keeper is not None
        process = pid(runner._keeper)
        runner.close()
        wait_until(lambda: state(process) == "", "it is ended and waited for")
        with pytest.raises(Problem, match="stopping"):
            runner.predict(ROW)


class TestWithoutTheKernel:
    """A kernel that cannot isolate runs no code."""

    def test_landlock_is_required(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(landlock, "syscall", lambda *_arguments: -1)
        assert landlock.version() < 1
        with pytest.raises(NotIsolated, match="no Landlock"):
            landlock.restrict(["/usr"])

    def test_another_processor_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(seccomp.platform, "machine", lambda: "aarch64")
        with pytest.raises(NotIsolated, match="x86_64"):
            seccomp.restrict()

    def test_a_process_that_is_not_isolated_is_given_no_code(
        self, keep: Callable[..., Keeper], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = ChildProcess.load

        def load(process: ChildProcess, files: Any) -> None:
            monkeypatch.setattr(process, "_exchange", lambda *_: Message(words={"not_isolated": "no Landlock"}))
            real(process, files)

        monkeypatch.setattr(ChildProcess, "load", load)
        with pytest.raises(Problem, match="cannot isolate the code of a model: no Landlock") as refused:
            keep(SUM).ask(ROW)
        assert refused.value.category is Category.UNSUPPORTED
