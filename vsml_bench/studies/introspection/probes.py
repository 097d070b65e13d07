"""The looks inside that the introspection protocol describes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from vsml_bench.acceleration import Runner
from vsml_bench.data.episodes import Episode
from vsml_bench.learner import State
from vsml_bench.studies.introspection.protocol import ACCURACY, CONFIDENCE, OCCURRENCES, RESPONSES


class _Probes(NamedTuple):
    """What the second lifetime learns from, and the two examples of each of the K classes that are
    kept for its branches. Steps are those of the whole stream."""

    shown: Tensor  # step of the example that a branch learns from, int64 [K, E]
    asked: Tensor  # step of another one of the same class [K, E]
    there: Tensor  # whether the stream has both, bool [K, E]; step 0 stands for what is missing
    withheld: Tensor  # the class never shown, int64 [E]
    stream: Tensor  # steps of the second lifetime, in order [S, E]
    length: Tensor  # how many of these are to be learned from; the rest is filling [E]


def by_occurrence(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Confidence and accuracy [E, OCCURRENCES] at the n-th example of a class; NaN where no class
    has n. logits [T, E, K], labels [T, E]."""
    of_class = one_hot(labels)  # [T, E, K]
    before = ((of_class.cumsum(0) - 1) * of_class).sum(-1)  # earlier examples of its class [T, E]
    judged = _judged(logits, labels)  # [T, E, 2]
    means = [_mean(judged, before == n) for n in range(OCCURRENCES)]
    confidence, accuracy = torch.stack(means, 1).unbind(-1)
    return {CONFIDENCE: confidence, ACCURACY: accuracy}


def responses(
    runner: Runner, state: State, episode: Episode, at: tuple[int, ...]
) -> dict[str, Tensor]:
    """All of `RESPONSES`, each [E, moments, LAGS, 2, 2]. state: fresh. at: the moments."""
    probes = _choose(episode.labels, at[-1] + 1)
    every = torch.arange(episode.labels.shape[1], device=episode.labels.device)
    found: list[dict[str, Tensor]] = []
    for begin, end in zip((0, *at), at, strict=False):
        steps = probes.stream[begin:end]
        if len(steps) > 0:
            _, state = runner.unroll(
                state, episode.inputs[steps, every], episode.labels[steps, every]
            )
        further = probes.stream[end]
        branches = _branches(
            runner,
            state,
            (episode.inputs[further, every], episode.labels[further, every]),
            episode,
            probes,
            _known(episode.labels, probes, end),
        )
        found.append(branches)
    # One more example is learned from than the moment says.
    reached = torch.tensor(at, device=every.device) < probes.length.unsqueeze(1)  # [E, moments]
    joined = {name: torch.stack([one[name] for one in found], 1) for name in RESPONSES}
    return {n: t.where(reached[..., None, None, None], torch.nan) for n, t in joined.items()}


def _choose(labels: Tensor, longest: int) -> _Probes:
    """From labels [T, E]; longest: how many examples the second lifetime learns from at most."""
    steps = torch.arange(len(labels), device=labels.device).unsqueeze(1)  # [T, 1]
    of_class = one_hot(labels).bool()  # [T, E, K]
    last = torch.where(of_class, steps.unsqueeze(2), -1).sort(0).values[-2:].mT  # [2, K, E]
    shown, asked = last.clamp(min=0)
    withheld = labels[0]
    # Step 0, which stands for what is missing, is of the withheld class anyway.
    kept = (labels != withheld).scatter(0, torch.cat([shown, asked]), False)
    stream = torch.where(kept, steps, len(labels) + steps).argsort(0)[:longest]
    return _Probes(shown, asked, (last >= 0).all(0), withheld, stream, kept.sum(0))


def _known(labels: Tensor, probes: _Probes, moment: int) -> Tensor:
    """Classes that are there and that the second lifetime has learned from, bool [K, E]."""
    learned = labels.gather(0, probes.stream[:moment])  # [moment, E]
    classes = torch.arange(len(probes.there), device=labels.device)
    return (learned.unsqueeze(1) == classes.unsqueeze(1)).any(0) & probes.there


def _branches(
    runner: Runner,
    state: State,
    further: tuple[Tensor, Tensor],
    episode: Episode,
    probes: _Probes,
    known: Tensor,
) -> dict[str, Tensor]:
    """Learns from one example of each class in turn, each time from `state`; returns all of
    `RESPONSES`, each [E, LAGS, 2, 2]. further: the example after it, inputs [E, ...] and labels
    [E]."""
    classes, lifetimes = probes.there.shape
    every = torch.arange(lifetimes, device=probes.there.device)
    labels = torch.arange(classes, device=every.device).unsqueeze(1).repeat(1, lifetimes)  # [K, E]
    shown, asked = episode.inputs[probes.shown, every], episode.inputs[probes.asked, every]

    def ask(state: State, inputs: Tensor, labels: Tensor) -> Tensor:  # [LAGS, Q, E, 2]
        states = (state, _learned(runner, state, *further))
        return torch.stack([_judged(runner.answer(one, inputs), labels) for one in states])

    questions = torch.cat([shown, asked]), labels.repeat(2, 1)
    itself, others = ask(state, *questions).chunk(2, 1)  # [LAGS, K, E, 2] each
    after = []
    for x, y in zip(shown, labels, strict=True):
        branch = _learned(runner, state, x, y)
        after.append(
            ask(branch, torch.cat([x.unsqueeze(0), asked]), torch.cat([y.unsqueeze(0), labels]))
        )
    itself_after = torch.cat([one[:, :1] for one in after], 1)
    others_after = torch.cat([one[:, 1:] for one in after], 1)  # [LAGS, K K, E, 2]
    first = (labels == probes.withheld) & probes.there
    own = torch.eye(classes, dtype=torch.bool, device=every.device).unsqueeze(2)
    # Of a pair the class that is learned from comes first, then the one that is asked for.
    pairs = {
        "same class": own & known,
        "other class": ~own & known.unsqueeze(1) & known,
        "new class": first.unsqueeze(1) & known,
        "first of its class": own & first,
    }
    responses = {"same example": [_mean(part, probes.there) for part in (itself, itself_after)]}
    for name, which in pairs.items():
        both = (others.repeat(1, classes, 1, 1), others_after)
        responses[name] = [_mean(part, which.flatten(0, 1)) for part in both]
    return {name: torch.stack(parts, 1).permute(2, 0, 1, 3) for name, parts in responses.items()}


def _learned(runner: Runner, state: State, inputs: Tensor, labels: Tensor) -> State:
    """The state after one more example, inputs [E, ...] and labels [E]."""
    _, predicted = runner.predict(state, inputs)
    return runner.observe(predicted, labels)


def _judged(logits: Tensor, labels: Tensor) -> Tensor:
    """Confidence and accuracy [Q, E, 2] of logits [Q, E, K] in labels [Q, E]."""
    confidence = logits.softmax(-1).gather(-1, labels.unsqueeze(-1))
    accuracy = (logits.argmax(-1, keepdim=True) == labels.unsqueeze(-1)).to(logits.dtype)
    return torch.cat([confidence, accuracy], -1)


def _mean(values: Tensor, which: Tensor) -> Tensor:
    """Mean [..., E, 2] of those of `values` [..., Q, E, 2] that `which` [Q, E] names; NaN where
    there are none."""
    which = which.unsqueeze(-1)
    return values.where(which, 0).sum(-3) / which.sum(0)
