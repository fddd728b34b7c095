"""An upgrade that is cut short at any statement is as if it had not begun (L-S9); there is no way back."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import hubkeep.store.migrations.versions
from hubkeep.store.tables import HEAD

PROGRAM = Path(__file__).parent / "interrupted_migration.py"
VERSIONS = Path(hubkeep.store.migrations.versions.__file__).parent


@pytest.mark.timeout(300)
def test_a_migration_killed_at_any_statement_is_finished_by_the_next_start(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(tmp_path), "0001"], capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) > 5


def test_migrations_go_forward_one_after_another() -> None:
    names = sorted(each.stem for each in VERSIONS.glob("v*.py"))
    before = None
    for name in names:
        version = importlib.import_module(f"hubkeep.store.migrations.versions.{name}")
        assert version.down_revision == before
        assert name.startswith(f"v{version.revision}_")
        assert not hasattr(version, "downgrade")
        before = version.revision
    assert before == HEAD
