"""The learners of the VSML family: their names on the board and how each is meta-trained.

A class per recipe; what they compute is in `network`, `label_variant` and `no_symmetry`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from vsml_bench.learner import ES, Phase, Recipe
from vsml_bench.vsml.label_variant import LabelVSMLConfig, LabelVSMLNetwork
from vsml_bench.vsml.network import VSMLConfig, VSMLNetwork
from vsml_bench.vsml.no_symmetry import NoSymmetryConfig, NoSymmetryNetwork
from vsml_bench.vsml.random_features import RandomFeaturesConfig, RandomFeaturesNetwork

__all__ = ["VSML", "VSMLConfig"]

SHORT = Phase(steps=400, lifetime=100, learning_rate=1e-2)
MIXED = Phase(steps=400, lifetime=50, learning_rate=1e-2, classes=(2, 3, 5, 10))
LONG = Phase(200, lifetime=300, learning_rate=1e-2, final_learning_rate=5e-4, lifetimes=8)


class VSML(VSMLNetwork):
    """The 2021 model with dense layers."""

    variants: ClassVar[Mapping[str, VSMLConfig]] = {"vsml": VSMLConfig()}
    invariances = frozenset({"inputs", "labels"})
    recipe = Recipe(
        phases=(
            Phase(steps=700, lifetime=100, learning_rate=1e-2),
            Phase(steps=240, lifetime=300, learning_rate=8e-3, final_learning_rate=2e-3),
            Phase(steps=120, lifetime=400, learning_rate=2e-3, final_learning_rate=2e-4),
            Phase(
                steps=140,
                lifetime=1000,
                learning_rate=6e-3,
                final_learning_rate=5e-4,
                fresh_optimizer=True,
                lifetimes=8,
            ),
        ),
        size=8,
    )


class VSMLVariant(VSML):
    """The 2021 model with an option. Most make each example two to four times as costly, so that
    meta-training is given fewer of them."""

    variants: ClassVar[Mapping[str, VSMLConfig]] = {
        "vsml-label-fed": VSMLConfig(feed_label=True),
        "vsml-layer-norm": VSMLConfig(layer_norm=True),
        "vsml-backward-pass": VSMLConfig(backward_pass=True),
        # As the released code has them, for several layers and for Omniglot.
        "vsml-deep-released": VSMLConfig(hidden=(32,), layer_norm=True, feed_label=True),
        "vsml-omniglot-released": VSMLConfig(feed_label=True, backward_pass=True),
    }
    recipe = Recipe((SHORT, LONG), size=8)


class RandomFeaturesVSML(RandomFeaturesNetwork):
    """The 2021 model above a random layer, of which it sees nothing but the units. Meta-training
    goes on from `vsml`, which learns from them at once."""

    variants: ClassVar[Mapping[str, RandomFeaturesConfig]] = {
        "vsml-random-features": RandomFeaturesConfig()
    }
    invariances = frozenset({"labels"})
    recipe = Recipe(
        phases=(
            Phase(
                steps=100,
                lifetime=1000,
                learning_rate=5e-3,
                final_learning_rate=5e-4,
                lifetimes=8,
            ),
        ),
        size=8,
        starts_from="vsml",
    )


class DeepVSML(VSMLVariant):
    """The 2021 model with a hidden layer. It is brought off the plateau as `vsml-conv` is; larger
    rates with longer lifetimes bring it back to chance."""

    variants: ClassVar[Mapping[str, VSMLConfig]] = {
        "vsml-deep": VSMLConfig(hidden=(32,), feed_label=True)
    }
    recipe = Recipe(
        phases=(
            MIXED,
            Phase(steps=300, lifetime=100, learning_rate=4e-3, final_learning_rate=1e-3),
            Phase(
                steps=150,
                lifetime=300,
                learning_rate=2e-3,
                final_learning_rate=3e-4,
                fresh_optimizer=True,
                lifetimes=8,
            ),
        ),
        size=8,
        starts_from="vsml-label-fed",
    )


class ConvVSML(VSMLVariant):
    """The 2021 model with a convolutional layer below the dense one. Its sub-RNN goes on from that
    of one dense layer, and tasks with few classes bring it off the plateau."""

    version = 2
    variants: ClassVar[Mapping[str, VSMLConfig]] = {
        "vsml-conv": VSMLConfig(conv=(4,), feed_label=True)
    }
    input_kinds = frozenset({"image"})
    invariances = frozenset({"labels"})
    recipe = Recipe(
        phases=(
            MIXED,
            Phase(steps=150, lifetime=100, learning_rate=6e-3, final_learning_rate=2e-3),
            Phase(
                steps=120,
                lifetime=300,
                learning_rate=5e-3,
                final_learning_rate=5e-4,
                fresh_optimizer=True,
                lifetimes=8,
            ),
        ),
        size=8,
        starts_from="vsml-label-fed",
    )


class DeepConvVSML(ConvVSML):
    """The 2021 model with two convolutional layers below the dense one, and the options that the
    released code has for Omniglot: the fed label and the backward pass. Its sub-RNN goes on from
    that of one convolutional layer; from that of a dense one alone it stays on the plateau."""

    version = 1
    variants: ClassVar[Mapping[str, VSMLConfig]] = {
        "vsml-conv-deep": VSMLConfig(conv=(4, 4), feed_label=True, backward_pass=True)
    }
    recipe = replace(ConvVSML.recipe, starts_from="vsml-conv")


class ReleasedConvVSML(ConvVSML):
    """The 2021 model with convolutional layers as the released code has them."""

    version = 1
    variants: ClassVar[Mapping[str, VSMLConfig]] = {
        "vsml-conv-released": VSMLConfig(
            conv=(8,), layer_norm=True, feed_label=True, backward_pass=True
        ),
        "vsml-conv-deep-released": VSMLConfig(
            conv=(8, 8, 8), layer_norm=True, feed_label=True, backward_pass=True
        ),
    }
    recipe = VSMLVariant.recipe


class EvolvedVSML(VSML):
    """The 2021 model, meta-trained by evolution strategies from scratch. Steps are larger than the
    paper's: with closed gates, what is learned in a short lifetime is too little for small steps to
    notice."""

    variants: ClassVar[Mapping[str, VSMLConfig]] = {"vsml-es": VSMLConfig()}
    recipe = Recipe(
        phases=(
            Phase(steps=500, lifetime=30, learning_rate=0.05, classes=3),
            Phase(steps=100, lifetime=60, learning_rate=0.05, final_learning_rate=0.03),
            Phase(steps=200, lifetime=100, learning_rate=0.03, final_learning_rate=0.01),
            Phase(steps=100, lifetime=300, learning_rate=0.01, final_learning_rate=1e-3),
        ),
        lifetimes=1,
        clip=0.0,
        size=8,
        engine=ES(pairs=256, own_lifetimes=True, noise_std=0.2),
    )


class LabelVSML(LabelVSMLNetwork):
    """The 2022 model. Without the tasks with few classes, some seeds stay on the plateau."""

    variants: ClassVar[Mapping[str, LabelVSMLConfig]] = {"vsml-label": LabelVSMLConfig()}
    invariances = frozenset({"inputs", "labels"})
    recipe = Recipe((replace(MIXED, steps=100), replace(SHORT, steps=300), LONG), size=8)


class NoSymmetryVSML(NoSymmetryNetwork):
    """The ablation: no sharing, hence one size and no invariance."""

    variants: ClassVar[Mapping[str, NoSymmetryConfig]] = {"vsml-no-symmetry": NoSymmetryConfig()}
    recipe = Recipe(phases=VSMLVariant.recipe.phases)
