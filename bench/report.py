"""RESULTS.md: the machine it was measured on, then a section per benchmark."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("RESULTS.md")
SECTIONS = ("Create", "API", "Memory", "Parameters", "Downtime", "Backup", "Keystone", "On a cloud")
_LIBRARIES = (
    "fastapi",
    "starlette",
    "uvicorn",
    "sqlalchemy",
    "dbos",
    "pydantic",
    "psycopg",
    "pymysql",
    "hiredis",
)
_GIB = 1024**3


def write(measured: dict[str, str], file: Path = RESULTS) -> None:
    """Put the sections measured now into the file; the others stay as they are in it."""
    sections = {**_stored(file), **measured}
    parts = [_head(), *(f"## {name}\n\n{sections[name]}" for name in SECTIONS if name in sections)]
    file.write_text("\n\n".join(part.strip() for part in parts) + "\n", encoding="utf-8")


def when() -> str:
    """The line a section begins with: taken before it measures, since it tells how busy the machine was."""
    load = os.getloadavg()[0]
    return (
        f"Measured {datetime.now(UTC):%Y-%m-%d %H:%M} UTC at commit {_commit()}, on an {_processor()}. Load average of the minute before: "
        f"{load:.1f} on {os.cpu_count()} cores."
    )


def _stored(file: Path) -> dict[str, str]:
    if not file.exists():
        return {}
    _, *sections = re.split(r"^## ", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {name: text.strip() for name, _, text in (section.partition("\n") for section in sections)}


def _head() -> str:
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return f"""\
# Results of `make bench`

Argosy and its rivals on one machine in one run, in turns. Nothing is pinned: servers and the programs that
load them share the cores, so compare the columns of a table, not a number with another machine's. A cell is
the **median** of the rounds with the range of their middle half (quartiles); a ratio is the median of the rounds' own
ratios. `python -m bench` measures all of it again.

- machine: {os.cpu_count()} cores ({_processor()}), {_memory_bytes() / _GIB:.0f} GiB of memory,
  {platform.system()} {platform.release()}, {_distribution()}
- Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}; {libraries}
"""


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return sys.platform


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "src")
        return git("rev-parse", "--short", "HEAD") + (" with uncommitted changes" if changed else "")
    except (subprocess.CalledProcessError, FileNotFoundError):
        return "unknown"
