"""A learner that was found: its class, its configuration, and where its code is. To make one is to
run its author's code, so that only child processes that run learners use this; everybody else reads
`cards`."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vsml_bench.cards import Card
from vsml_bench.config import as_plain, replace
from vsml_bench.errors import UnavailableError, VsmlBenchError, shortened
from vsml_bench.learner import Learner
from vsml_bench.plugins import missing_package, relative_files
from vsml_bench.provenance import scrub


@dataclass(frozen=True)
class Place:
    """Where learners are defined."""

    origin: str
    """What people are told: "baselines/ridge.py", "package NAME", "module NAME", a file's name."""
    where: str
    """What finds it again: a path or a module; "" where its learners are found by name."""
    home: Path | None = None
    """Below which the author's own files are; None for vsml-bench's."""
    package: str = ""
    """Name and version of the author's package, if any."""


@dataclass(frozen=True)
class LearnerEntry:
    """A named configuration of a learner class."""

    name: str
    cls: type[Learner]
    config: Any
    place: Place

    @property
    def origin(self) -> str:
        """Where it was found."""
        return self.place.origin

    @property
    def reference(self) -> str:
        """What finds it again in another process."""
        place = self.place.where
        return f"{place}:{self.cls.__name__}:{self.name}" if place else self.name

    @property
    def unavailable(self) -> str:
        """Which package it lacks here, and how to install it; "" where it can run."""
        return missing_package(self.cls.requires, f"learner '{self.name}' ({self.origin})")

    def configured(self, values: dict[str, Any]) -> LearnerEntry:
        """The same learner with some configuration fields overridden, checked against them."""
        config = replace(self.config, values, f"configuration of {self.name}")
        return dataclasses.replace(self, config=config)

    def overridden(self, values: dict[str, Any]) -> LearnerEntry:
        """`configured` with what a user asks for; VsmlBenchError for a field that is tuned anyway,
        where the wish would be lost."""
        grid = self.cls.tuning.values if self.cls.tuning is not None else {}
        tuned = sorted(set(values) & set(grid))
        if tuned:
            raise VsmlBenchError(
                f"configuration of {self.name}: '{tuned[0]}' is tuned on the meta-train side and "
                "cannot be set; leave it out, or change the learner's tuning grid."
            )
        return self.configured(values)

    def create(self, seed: int | None = None) -> Learner:
        """An instance; with a seed its meta-parameters are drawn afresh from it.

        Raises VsmlBenchError where the class does not fulfil the contract, UnavailableError where
        a package that it needs is not installed.
        """
        missing = sorted(getattr(self.cls, "__abstractmethods__", ()))
        if missing:
            raise VsmlBenchError(
                f"learner '{self.name}' ({self.origin}): class {self.cls.__name__} lacks "
                f"{', '.join(f'{m}()' for m in missing)}; see vsml_bench/learner.py."
            )
        if self.unavailable:
            raise UnavailableError(self.unavailable)
        learner = self.cls(self.config)
        if seed is not None:
            learner.init_meta_parameters(torch.Generator().manual_seed(seed))
        return learner

    def probe(self) -> dict[str, Any]:
        """Tries it on made-up data and returns what a card says of its sizes, nothing where it
        lacks a package. VsmlBenchError, naming learner and method, where a method fails or gives
        something else than the contract says."""
        from vsml_bench.contract.claims import measure_state
        from vsml_bench.contract.subject import exercise, usual_shapes

        if self.unavailable:
            return {}
        learner = self.create(seed=0)
        for shape in usual_shapes(learner):
            exercise(learner, shape, f"learner '{self.name}' ({self.origin})")
        state = measure_state(self)
        return {
            "fixed_shape": learner.fixed_shape,
            "meta_parameters": sum(p.numel() for p in learner.parameters()),
            "state_floats": state.floats,
            "state_growth": state.growth,
        }

    def _plain_config(self) -> dict[str, Any]:
        """Every field; VsmlBenchError for a value that cells could not keep, such as a function."""
        try:
            plain: dict[str, Any] = as_plain(self.config)
        except VsmlBenchError as error:
            raise VsmlBenchError(
                f"learner '{self.name}': a value of its configuration, "
                f"{type(self.config).__name__}: {error}"
            ) from None
        return plain

    def _external_data(self) -> str:
        """On one line, which can be published; VsmlBenchError where it is no text."""
        said: object = self.cls.external_data
        if not isinstance(said, str):
            raise VsmlBenchError(
                f"learner '{self.name}' ({self.origin}): external_data: expected a text such as "
                f"'none' or 'ImageNet-1k', found {type(said).__name__}."
            )
        return scrub(shortened(said))

    def card(self, sizes: Mapping[str, Any]) -> Card:
        """What it says of itself. sizes: what `probe` has found, after which all of the author's
        files that are imported late have been imported."""
        cls, files = self.cls, relative_files(self.place.home)
        return Card(
            name=self.name,
            version=cls.version,
            config=self._plain_config(),
            family=cls.family,
            source=cls.source,
            protocols=tuple(sorted(cls.protocols)),
            input_kinds=tuple(sorted(cls.input_kinds)),
            invariances=tuple(sorted(cls.invariances)),
            recipe=cls.recipe,
            tuning=cls.tuning,
            requires=dict(cls.requires),
            origin=self.origin,
            reference=self.reference,
            class_name=cls.__name__,
            files=files,
            package=self.place.package,
            doc=inspect.getdoc(cls) or "",
            external_data=self._external_data(),
            **{"fixed_shape": None, **sizes},
        )
