"""Commands in processes of their own, forked from one that has imported the command already.

Each has its own environment, working directory, output and exit status; only the import, two thirds of the time of a
short command, is shared. ``cli.processes.started`` and the demo start whole processes.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_CONTEXT: Final = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["hubkeep.cli.main", "typer._adapters", "typer._coercion", "hubkeep.settings"])


def run(arguments: Sequence[str], environment: Mapping[str, str], within: float) -> tuple[int, str, str]:
    """Exit status, standard output and standard error. Raises subprocess.TimeoutExpired."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = _CONTEXT.Process(target=_carry_out, args=(list(arguments), dict(environment), str(out), str(err)))
        process.start()
        process.join(within)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(["hubkeep", *arguments], within)
        status = process.exitcode
        process.close()
        return status, out.read_text(), err.read_text()


def _carry_out(arguments: list[str], environment: dict[str, str], out: str, err: str) -> None:
    for number, path in ((1, out), (2, err)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["hubkeep", *arguments]
    from hubkeep.cli.main import main

    main(arguments)
