"""What the kernel says of a process: see proc_pid_status(5)."""

from __future__ import annotations

import os
from pathlib import Path

from argosy.rpc.messages import ProcessFigures

_FIGURES = {
    "Threads": "threads",
    "FDSize": "fd_size",
    "VmSize": "vm_size_kb",
    "VmPeak": "vm_peak_kb",
    "VmRSS": "vm_rss_kb",
    "VmHWM": "vm_hwm_kb",
}


def figures_of(pid: int | None) -> ProcessFigures | None:
    """None when there is no such process, or not any more."""
    if pid is None:
        return None
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return None
    said = dict(line.split(":", 1) for line in lines)
    # A process that has ended and was not waited for has no memory to tell of.
    told = {field: int(said[name].split()[0]) for name, field in _FIGURES.items() if name in said}
    return ProcessFigures(pid=pid, **told)


def own_figures() -> ProcessFigures:
    figures = figures_of(os.getpid())
    assert figures is not None  # noqa: S101 - whoever reads this is there
    return figures
