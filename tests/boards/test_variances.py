"""What scores vary by, by hand and as statsmodels has it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from statsmodels.formula.api import mixedlm, ols
from statsmodels.stats.anova import anova_lm

from tests.boards.factory import make_group
from vsml_bench.boards.columns import columns
from vsml_bench.boards.variances import components, residual


def test_by_hand() -> None:
    # As in test_statistics: MS_a = 0.015, MS_b = 0.015, MS_e = 0.005 with S = 2 and L = 3, so that
    # the variances are 0.01 / 3, 0.01 / 2 and 0.005.
    scores = np.array([[0.5, 0.6, 0.7], [0.7, 0.6, 0.8]])
    found = components(scores)
    assert found is not None
    whole = 0.01 / 3 + 0.005 + 0.005
    parts = (found.seeds, found.lifetimes, found.interaction)
    assert parts == pytest.approx((0.01 / 3 / whole, 0.005 / whole, 0.005 / whole))
    assert residual(scores) == pytest.approx(0.005)


def test_less_than_chance_is_none_by_hand() -> None:
    # Equal seed means, lifetimes +-0.1, residuals +-0.1: MS_a = 0, MS_b = MS_e = 0.04.
    found = components(np.array([[0.4, 0.8], [0.6, 0.6]]))
    assert found is not None and (found.seeds, found.lifetimes) == pytest.approx((0, 0), abs=1e-9)
    assert found.interaction == pytest.approx(1)


@pytest.mark.parametrize("scores", [[[0.5, 0.6]], [[0.5], [0.6]], [[0.7, 0.7], [0.7, 0.7]]])
def test_what_cannot_be_told_apart_is_none(scores: list[list[float]]) -> None:
    assert components(np.array(scores)) is None


def test_statsmodels_agrees() -> None:
    """Balanced, and with all parts there, restricted likelihood agrees with moments."""
    random = np.random.default_rng(0)
    scores = (
        0.6
        + 0.05 * random.standard_normal((4, 1))
        + 0.04 * random.standard_normal((1, 6))
        + 0.02 * random.standard_normal((4, 6))
    )
    where = np.indices(scores.shape).reshape(2, -1)
    frame = pd.DataFrame({"x": 100 * scores.ravel(), "seed": where[0], "lifetime": where[1]})
    squares = anova_lm(ols("x ~ C(seed) + C(lifetime)", frame).fit())["mean_sq"]
    rest = squares["Residual"]
    moments = [(squares["C(seed)"] - rest) / 6, (squares["C(lifetime)"] - rest) / 4, rest]
    effects = {"seed": "0 + C(seed)", "lifetime": "0 + C(lifetime)"}
    fitted = mixedlm("x ~ 1", frame, groups=np.ones(24), vc_formula=effects).fit()
    likeliest = dict(zip(fitted.model.exog_vc.names, fitted.vcomp, strict=True))
    found = components(scores)
    assert found is not None
    parts = np.array([found.seeds, found.lifetimes, found.interaction])
    assert parts == pytest.approx(np.array(moments) / sum(moments))
    reml = np.array([likeliest["seed"], likeliest["lifetime"], fitted.scale])
    assert parts == pytest.approx(reml / reml.sum(), abs=1e-3)


def test_columns() -> None:
    known = columns()
    names = ("seed_share", "lifetime_share", "interaction_share")

    def values(*accuracies: list[float]) -> list[float | None]:
        group = make_group("held-out", "vsml", accuracies)
        return [known[name].values(name, group, [group])[name] for name in names]

    assert values([0.5, 0.6, 0.7]) == [None] * 3
    # Shares of 0.01 / 3, 0.005 and 0.005.
    assert values([0.5, 0.6, 0.7], [0.7, 0.6, 0.8]) == pytest.approx([0.25, 0.375, 0.375])
