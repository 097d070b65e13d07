"""`python -m benchmarks.profile`: where the time of each case goes, as a picture and as numbers, in
results/speed. On one core, so that shares add up."""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.case import Case
from benchmarks.cases import CASES
from benchmarks.speed import machine, parser, peak_flops, write
from vsml_bench.boards.drawing import to_svg
from vsml_bench.execution import decide
from vsml_bench.storage import write_atomically
from vsml_bench.vsml.fast import library

KINDS = {
    "hand-written C++": ("vsml_",),
    "matrix products": [
        "aten::mm",
        "aten::addmm",
        "aten::bmm",
        "aten::baddbmm",
        "aten::matmul",
        "aten::linear",
        "aten::_scaled",
        "aten::mkldnn",
        "aten::convolution",
        "aten::_convolution",
    ],
    "compiled by torch.compile": ("Torch-Compiled", "## Call", "CompiledFunction", "TorchDynamo"),
    "other operators of PyTorch": ("aten::", "autograd::", "torch::"),
}
PYTHON = "Python and the rest"


def shares(case: Case) -> dict[str, float]:
    """Kind of work -> share of the time of a run."""
    decide("cpu", 1)
    run = case.sides()[0]()
    run()
    began = time.perf_counter()
    run()
    undisturbed = time.perf_counter() - began
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        began = time.perf_counter()
        run()
        wall = time.perf_counter() - began
    seconds: defaultdict[str, float] = defaultdict(float)
    for event in profiled.key_averages():
        seconds[_kind(event.key)] += event.self_cpu_time_total / 1e6
    # profiling makes small operators slower, and what lies between them not
    seconds[PYTHON] = max(0.0, wall - sum(s for kind, s in seconds.items() if kind != PYTHON))
    total = sum(seconds.values())
    return {kind: seconds[kind] / total for kind in (*KINDS, PYTHON)} | {"seconds": undisturbed}


def _kind(name: str) -> str:
    for kind, beginnings in KINDS.items():
        if name.startswith(tuple(beginnings)):
            return kind
    return PYTHON


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Writes one bar per case, as SVG."""
    import altair as alt

    kinds = [*KINDS, PYTHON]
    values = [
        {"case": row["case"], "kind": kind, "order": order, "share": 100 * row[kind]}
        for row in rows
        for order, kind in enumerate(kinds)
    ]
    legend = alt.Legend(title="kind of work", orient="bottom", columns=3)
    chart = (
        alt.Chart(alt.InlineData(values=values))
        .mark_bar()
        .encode(
            x=alt.X(
                "share:Q",
                title="share of the time (%), one core",
                scale=alt.Scale(domain=(0, 100)),
            ),
            y=alt.Y("case:N", sort=None, title=None),
            color=alt.Color("kind:N", sort=kinds, legend=legend),
            order="order:Q",
        )
        .properties(width=560, height=alt.Step(28))
    )
    write_atomically(path, to_svg(chart.to_dict()).encode())


def main() -> None:
    """Profiles all cases but the runner's, which is what the first one's is."""
    out = parser(main.__doc__).parse_args().out
    call = library.call

    def recorded(name: str, *arguments: Any) -> None:
        with record_function(name):
            call(name, *arguments)

    library.call = recorded
    rows: list[dict[str, Any]] = [
        {"case": case.name, **shares(case)} for case in CASES if case.flops is not None
    ]
    document = {"machine": machine(peak_flops()), "rows": rows}
    write(document, out / "profile.json")
    draw(rows, out / "profile.svg")
    for row in rows:
        parts = ", ".join(f"{100 * row[k]:.0f} % {k}" for k in (*KINDS, PYTHON) if row[k] >= 0.005)
        print(f"{row['case']}: {parts}")


if __name__ == "__main__":
    main()
