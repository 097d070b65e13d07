"""The Python API: the same verbs as the command line, for notebooks and scripts.

Learners are known by their cards here, so that nothing of theirs runs in this process, and it needs
no PyTorch.
"""

from vsml_bench.api.boards import board, leaderboard, stored_board
from vsml_bench.api.comparing import compare, compared, curves
from vsml_bench.api.learners import check, check_all, list_learners
from vsml_bench.api.planning import cost_model, made_before, plan, results_folder, speeds
from vsml_bench.api.running import run
from vsml_bench.api.training import meta_train, meta_training_job

__all__ = [
    "board",
    "check",
    "check_all",
    "compare",
    "compared",
    "cost_model",
    "curves",
    "leaderboard",
    "list_learners",
    "made_before",
    "meta_train",
    "meta_training_job",
    "plan",
    "results_folder",
    "run",
    "speeds",
    "stored_board",
]
