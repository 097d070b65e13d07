"""Learners whose processes end, hang or change things, as files that can be run."""

from __future__ import annotations

from pathlib import Path

from tests.harness import LEARNER, write

HEAD = (
    LEARNER
    + '''
import ctypes
import signal
import sys
import threading
import time

from torch import nn
from vsml_bench.learner import Phase, Recipe, TuningGrid

READING = '"reference"' in sys.argv[-1]
"""Whether this process reads its card, and runs no cell."""


class Own(Exception): ...


class Odd(BaseException): ...


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class Hostile(Exception):
    def __reduce__(self):
        return eval, (f"open({os.environ.get('VSML_TEST_MARK')!r}, 'w') and ValueError()",)


kept = []


def throws(error):
    def throw():
        raise error
    return throw


def ignores_signals():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(10_000)


def patches_the_harness():
    import numpy
    import vsml_bench.protocols.evaluation as evaluation
    evaluation.stepwise_loss = lambda logits, labels: torch.zeros(labels.shape)
    torch.Tensor.argmax = lambda self, *rest: torch.zeros(self.shape[:-1])
    numpy.concatenate = lambda parts: numpy.ones((2, 30), bool)
    os.environ["PATH"] = "/nowhere"


def changes_settings():
    torch.set_default_dtype(torch.float64)
    torch.set_float32_matmul_precision("medium")
    torch.set_num_threads(3)
    torch.manual_seed(time.time_ns())
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    torch.set_flush_denormal(True)
    os.environ["VSML_BENCH_DATA"] = "/nowhere"
    os.environ["OMP_NUM_THREADS"] = "7"
    os.umask(0o777)
    os.chdir("/")
    sys.path.clear()


WAYS = {
    "leaves with 0": lambda: os._exit(0),
    "leaves with 7": lambda: os._exit(7),
    "kills itself": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfaults": lambda: ctypes.string_at(0),
    "aborts": os.abort,
    "raises its own": throws(Own("mine")),
    "raises without words": throws(Mute()),
    "raises hostilely": throws(Hostile()),
    "writes to a dead child": throws(BrokenPipeError("no reader")),
    "stops an iteration": throws(StopIteration()),
    "is out of memory": throws(MemoryError()),
    "asks for too much": lambda: torch.empty(2**60),
    "allocates": lambda: kept.extend(torch.ones(25_000_000) for _ in range(10_000)),
    "recurses": lambda: WAYS["recurses"](),
    "closes files": lambda: os.closerange(3, 256),
    "sleeps": lambda: time.sleep(10_000),
    "holds the GIL": lambda: ctypes.PyDLL(None).pause(),
    "stands still": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "ignores signals": ignores_signals,
    "leaves a thread": lambda: threading.Thread(target=time.sleep, args=(10_000,)).start(),
    "patches the harness": patches_the_harness,
    "changes settings": changes_settings,
    "exits with 0": throws(SystemExit(0)),
    "exits with words": throws(SystemExit("words")),
    "interrupts": throws(KeyboardInterrupt()),
    "ends a generator": throws(GeneratorExit()),
    "raises no Exception": throws(Odd("odd")),
    "prints": lambda: print("x" * 1_000_000, file=sys.stderr) or print("{[garbage", flush=True),
}


def goes(way):
    if not READING:
        WAYS[way]()


class Trained(Base):
    recipe = Recipe(
        (Phase(steps=2, lifetime=10, learning_rate=0.01),), lifetimes=2, validation_lifetimes=2
    )

    def __init__(self, config):
        super().__init__(config)
        self.scale = nn.Parameter(torch.ones(()))

    def init_meta_parameters(self, generator):
        with torch.no_grad():
            self.scale.fill_(1.0)

    def predict(self, state, inputs):
        logits, state = super().predict(state, inputs)
        return self.scale * logits, state

'''
)
"""What all of them begin with."""

STAGES = {
    "import": """
goes(WAY)
class Odd(Base):
    variants = {NAME: Config("")}
""",
    "fresh state": """
class Odd(Base):
    variants = {NAME: Config("")}
    def init_state(self, *given):
        goes(WAY)
        return super().init_state(*given)
""",
    "prediction": """
class Odd(Base):
    variants = {NAME: Config("")}
    def predict(self, state, inputs):
        if state.steps.max() == 10:
            goes(WAY)
        return super().predict(state, inputs)
""",
    "meta-training": """
class Odd(Trained):
    variants = {NAME: Config("")}
    def predict(self, state, inputs):
        if self.training and state.steps.max() == 5:
            goes(WAY)
        return super().predict(state, inputs)
""",
    "tuning": """
class Odd(Base):
    variants = {NAME: Config("")}
    tuning = TuningGrid({"how": ("a", "b")}, lifetimes=2, steps=20)
    def predict(self, state, inputs):
        if state.steps.max() == 5:
            goes(WAY)
        return super().predict(state, inputs)
""",
}
"""When -> a learner that then goes that way."""


def odd(folder: Path, stage: str, way: str) -> Path:
    """The file of a learner called "way-stage"."""
    name = f"{way}-{stage}".replace(" ", "-")
    text = STAGES[stage].replace("WAY", repr(way)).replace("NAME", repr(name))
    return write(folder / f"{name.replace('-', '_')}.py", HEAD + text)
