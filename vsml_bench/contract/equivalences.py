"""Two ways to the same thing, which must agree: a faster `unroll` and the loop, stored and live
meta-parameters, a population at once and one by one."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.func import vmap
from torch.nn.functional import cross_entropy

from vsml_bench.acceleration.fast_code import call_with
from vsml_bench.contract import Finding, failed, passed, skipped
from vsml_bench.contract.audits import ROUNDING
from vsml_bench.contract.subject import (
    CPU,
    LIFETIMES,
    NUDGE,
    Stream,
    Subject,
    Way,
    accelerated,
    double_precision,
    largest_move,
    looped,
    quiet_randomness,
    relative_error,
    runner_of,
    unrolled,
)
from vsml_bench.learner import Learner, State
from vsml_bench.meta_training.checkpoint import (
    load_checkpoint,
    load_meta_parameters,
    save_checkpoint,
)
from vsml_bench.owners import temporary_folder
from vsml_bench.protocols.evaluation import fresh_states
from vsml_bench.seeds import generator

LONG = 300
"""Steps that take an `unroll` of the learner's own past the end of a block of 256."""
SINGLE_ROUNDING = 1e-4
"""`ROUNDING` of float32, over a few steps."""
MEMBERS = 3
NO_META_PARAMETERS = "it has no meta-parameters."


def unroll_and_loop(subject: Subject) -> Finding:
    """`unroll` gives the logits of the predict/observe loop, whole and in two halves, and each can
    go on from where the other stopped; so does the runner that the harness makes of the learner, in
    float32."""
    with double_precision():
        errors = _against_the_loop(subject, "unroll", unrolled)
        if subject.overrides_unroll:
            long = subject.stream(LONG, lifetimes=1)
            logits, _ = subject.run(long)
            error = relative_error(logits, subject.run(long, looped)[0])
            errors[f"unroll over {LONG} steps"] = error
    quick = _against_the_loop(subject, "the accelerated unroll", accelerated)
    if _refuses_fast_code(subject):
        return failed(
            f"fast_code, {subject.entry.cls.fast_code}, fails or gives something else than "
            "predict/observe; the warning says which."
        )
    for found, rounding in ((errors, ROUNDING), (quick, SINGLE_ROUNDING)):
        worst = max(found, key=found.__getitem__)
        if found[worst] > rounding:
            return failed(
                f"{worst} and predict/observe differ by {found[worst]:.3g} (relative); they have "
                "to be the same computation.",
                found[worst],
            )
    largest = max(errors.values())
    return passed(f"{', '.join([*errors, *quick])}: equal to predict/observe.", largest)


def _against_the_loop(subject: Subject, name: str, way: Way) -> dict[str, float]:
    """What is compared -> how far it is off."""
    stream = subject.stream()
    expected, _ = subject.run(stream, looped)
    ways = {
        name: way,
        f"{name} in two halves": _in_halves(way, way),
        f"the loop after {name}": _in_halves(way, looped),
    }
    return {
        what: relative_error(subject.run(stream, one)[0], expected) for what, one in ways.items()
    }


def _in_halves(first: Way, second: Way) -> Way:
    """Each half of the stream its own way."""

    def run(learner: Learner, state: State, stream: Stream) -> tuple[Tensor, State]:
        early, late = _halves(stream)
        logits, state = first(learner, state, early)
        more, state = second(learner, state, late)
        return torch.cat([logits, more]), state

    return run


def _refuses_fast_code(subject: Subject) -> bool:
    """Whether the harness would do without the code that the learner names."""
    runner = runner_of(subject.learner())
    if runner.fast is None:
        return False
    with torch.compiler.set_stance("force_eager"):
        subject.run(subject.stream(), lambda _, state, stream: runner.unroll(state, *stream))
    return runner.fast.refused


def answers(subject: Subject) -> Finding:
    """`answer` gives each query what `predict` gives it from the state after the support set."""
    with double_precision():
        learner, stream = subject.learner(), subject.stream()
        support, queries = _halves(stream)
        with torch.no_grad(), quiet_randomness():
            state = fresh_states(learner, range(LIFETIMES), subject.shape, CPU)
            state = learner.adapt(state, *support)
            expected = torch.stack([learner.predict(state, x)[0] for x in queries.inputs])
            error = relative_error(learner.answer(state, queries.inputs), expected)
    if error > ROUNDING:
        return failed(
            f"queries answered together and one by one differ by {error:.3g} (relative); each has "
            "to be answered from the state after adapt(), as if it were the only one.",
            error,
        )
    return passed("queries answered together and one by one: the same.", error)


def _halves(stream: Stream) -> tuple[Stream, Stream]:
    half = len(stream.labels) // 2
    return Stream(*(part[:half] for part in stream)), Stream(*(part[half:] for part in stream))


def save_and_load(subject: Subject) -> Finding:
    """Meta-parameters written to a checkpoint and read into a new instance give the same logits."""
    if not subject.meta_parameters:
        return skipped(NO_META_PARAMETERS)
    learner, stream = subject.learner(), subject.stream()
    before, _ = subject.run(stream, learner=learner)
    with temporary_folder() as folder:
        path = folder / "check.safetensors"
        save_checkpoint(path, learner.state_dict(), {"purpose": "check"})
        restored = subject.entry.create().eval()
        load_meta_parameters(restored, load_checkpoint(path), path.name)
    after, _ = subject.run(stream, learner=restored)
    moved = largest_move(before, after)
    if moved:
        return failed(
            f"logits after a round trip through a checkpoint differ by up to {moved:.3g}; whatever "
            "init_meta_parameters() draws must be a parameter or a registered buffer.",
            moved,
        )
    return passed("a new instance with the checkpoint's meta-parameters gives the same logits.", 0)


def population(subject: Subject) -> Finding:
    """Several sets of meta-parameters at once, by `torch.func.vmap`, as evolution strategies run
    them, on an instance that has run before, against instances that hold one set each."""
    if not subject.meta_parameters:
        return skipped(NO_META_PARAMETERS)
    with double_precision():
        learner, stream = subject.learner(), subject.stream()
        subject.run(stream, learner=learner)
        members = _members(learner)

        def lifetimes() -> Tensor:
            state = fresh_states(learner, range(LIFETIMES), subject.shape, CPU)
            return learner.unroll(state, *stream)[0]

        def run_member(parameters: Mapping[str, Tensor]) -> Tensor:
            logits: Tensor = call_with(learner, parameters, lifetimes)
            return logits

        try:
            # without gradients the default `unroll` writes in place, which vmap cannot follow
            with torch.enable_grad(), quiet_randomness(), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "There is a performance drop")
                together = vmap(run_member, randomness="same")(members)  # [P, T, E, K]
        except Exception as error:
            reason = " ".join(str(error).split())[:120]
            return skipped(
                f"torch.func.vmap cannot take it, so evolution strategies cannot train it "
                f"({type(error).__name__}: {reason})."
            )
        worst = 0.0
        for index in range(MEMBERS):
            single = subject.learner()
            with torch.no_grad():
                for name, parameter in single.named_parameters():
                    parameter.copy_(members[name][index])
            alone, _ = subject.run(stream, learner=single)
            worst = max(worst, relative_error(together[index], alone))
    if worst > ROUNDING:
        return failed(
            f"{MEMBERS} members at once and one by one differ by {worst:.3g} (relative); nothing "
            "computed from the meta-parameters may be kept in an attribute.",
            worst,
        )
    return passed(f"{MEMBERS} members at once give what they give one by one.", worst)


def _members(learner: Learner) -> dict[str, Tensor]:
    """Neighbours of the learner's meta-parameters, each [P, ...]."""
    noise = generator(5)
    return {
        name: p.detach() + NUDGE * torch.randn(MEMBERS, *p.shape, generator=noise, dtype=p.dtype)
        for name, p in learner.named_parameters()
    }


def meta_gradient(subject: Subject) -> Finding:
    """Backpropagation through a lifetime reaches the meta-parameters and gives finite numbers."""
    has_recipe = subject.entry.cls.recipe is not None
    if has_recipe != bool(subject.meta_parameters):
        return failed(
            "it has a recipe but no meta-parameters to train; register them as nn.Parameter."
            if has_recipe
            else "it has meta-parameters but no recipe; give the class one, so that they can be "
            "meta-trained."
        )
    if not has_recipe:
        return skipped(NO_META_PARAMETERS)
    learner, stream = subject.learner(), subject.stream()
    with quiet_randomness():
        state = learner.init_state(LIFETIMES, subject.shape, generator(1))
        try:
            logits, _ = learner.unroll(state, *stream)
            cross_entropy(logits.flatten(0, 1), stream.labels.flatten()).backward()
        except RuntimeError as error:
            return failed(
                f"the meta-loss cannot be differentiated ({' '.join(str(error).split())[:120]}); "
                "predict() and observe() must be differentiable."
            )
    gradients = [p.grad for p in learner.parameters() if p.grad is not None]
    norm = float(torch.stack([g.norm() for g in gradients]).norm()) if gradients else 0.0
    if not 0.0 < norm < float("inf"):
        return failed(f"the meta-gradient has norm {norm:g}; it should be finite and not zero.")
    reached = sum(g.numel() for g in gradients)
    return passed(
        f"it is finite, norm {norm:.3g}; {reached} of {subject.meta_parameters} meta-parameters "
        "have one.",
        norm,
    )
