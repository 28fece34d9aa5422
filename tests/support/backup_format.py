"""The scripts of docs/backup-format.md, taken out of the page and run where nothing of Argosy can be imported."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "backup-format.md"


def scripts() -> dict[str, str]:
    """By their names."""
    return dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE.read_text(), re.DOTALL))


def run(script: str, directory: Path, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Put a script into a directory and run it; its result, whatever it was."""
    file = directory / script
    file.write_text(scripts()[script])
    return subprocess.run([sys.executable, "-I", file, *arguments], capture_output=True, check=False)
