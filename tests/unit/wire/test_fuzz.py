"""The short form of fuzz/run.py."""

import importlib.util
import io
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[3] / "fuzz"


def _run() -> Any:
    sys.path.insert(0, str(FOLDER))
    try:
        spec = importlib.util.spec_from_file_location("fuzz_run", FOLDER / "run.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(FOLDER))
    return module


RUN = _run()


@pytest.mark.spec("L-R4", "L-R5")
@pytest.mark.parametrize("wire", RUN.WIRES)
def test_mutated_input_keeps_the_promises(wire: str) -> None:
    out = io.StringIO()
    assert RUN.fuzz(wire, 2000, 0, out) == 0, out.getvalue()


def test_one_seed_makes_the_same_inputs() -> None:
    import random

    wire = RUN.WIRES["mqtt"]
    made = [RUN.mutated(wire.corpus[0], wire, random.Random("1")) for _ in range(2)]
    assert made[0] == made[1] != wire.corpus[0]


@pytest.mark.parametrize("wire", RUN.MACHINES)
def test_any_order_of_acts_keeps_connections_sessions_and_links_in_step(wire: str) -> None:
    RUN.live(wire, {"mqtt": 15, "amqp": 40}[wire], 0, steps=40)
