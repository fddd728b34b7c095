"""The short form of fuzz/run.py."""

import importlib.util
import io
import sys
from pathlib import Path
from typing import Any

import pytest

INPUTS = 50_000
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


@pytest.mark.filterwarnings("ignore")  # the parsers warn of what the hub refuses
@pytest.mark.spec("L-R4", "L-R5")
@pytest.mark.parametrize("target", RUN.TARGETS)
def test_mutated_input_keeps_the_promises(target: str) -> None:
    out = io.StringIO()
    assert RUN.fuzz(target, INPUTS, 0, out) == 0, out.getvalue()[:20_000]


def test_one_seed_makes_the_same_inputs() -> None:
    import random

    target = RUN.TARGETS["mqtt"]
    made = [[RUN.made(target, random.Random(seed)) for seed in range(9)] for _ in range(2)]
    assert made[0] == made[1]
    assert len(set(made[0])) > 7


@pytest.mark.parametrize("wire", RUN.MACHINES)
def test_any_order_of_acts_keeps_connections_sessions_and_links_in_step(wire: str) -> None:
    RUN.live(wire, {"mqtt": 15, "amqp": 40}[wire], 0, steps=40)
