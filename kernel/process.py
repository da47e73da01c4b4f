"""Which processes of this machine run."""

from pathlib import Path


def process_start(pid: int) -> str:
    """Return when a process of this host started, in clock ticks since boot; empty when it has ended.

    The process id alone does not identify a process: it is reused, and in a container every server is process 1.
    """
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    fields = status.rpartition(")")[2].split()  # from field 3 of proc(5) on, after the name in parentheses
    return "" if fields[0] == "Z" else fields[19]  # a zombie has ended, and nobody has asked for its exit code yet
