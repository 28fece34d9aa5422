"""A release after this one: this tree's code, copied, with one more migration that is made up."""

from __future__ import annotations

import shutil
from pathlib import Path

from argosy.metadata import migrations
from tests.support.server import ROOT

REVISION = "0005"
_ADDS = 'op.add_column("instances", sa.Column("made_up", sa.String(8), nullable=False, server_default="yes"))'
_TAKES_AWAY = 'op.drop_column("instances", "growing_to_memory_mb")'
_MIGRATION = '''"""Made up."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, oldest = "{revision}", "{before}", "{oldest}"


def upgrade() -> None:
    {change}
'''


def newer_release(place: Path, *, takes_away: bool) -> dict[str, str]:
    """What makes processes run it: an environment. It only adds to the tables, or takes from them what this one needs."""
    package = place / "argosy"
    # Whoever else runs this tree may be compiling it, and takes the files away that were half written.
    shutil.copytree(ROOT / "src" / "argosy", package, ignore=shutil.ignore_patterns("__pycache__"))
    entry = package / "metadata" / "migrations" / "__init__.py"
    entry.write_text(entry.read_text().replace(f'HEAD = "{migrations.HEAD}"', f'HEAD = "{REVISION}"'))
    (entry.parent / "versions" / f"{REVISION}_made_up.py").write_text(
        _MIGRATION.format(
            revision=REVISION,
            before=migrations.HEAD,
            oldest=REVISION if takes_away else migrations.HEAD,
            change=_TAKES_AWAY if takes_away else _ADDS,
        )
    )
    return {"PYTHONPATH": str(place)}
