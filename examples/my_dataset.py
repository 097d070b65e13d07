"""An example: two half moons as a dataset. Copy it and change it.

A split of your own, `moons.toml`, names it by its path:

    description = "Half moons that meta-training never saw."
    relation = "unseen_tasks"
    [meta_train]
    datasets = ["examples/my_dataset.py"]
    partition = "train"
    [meta_test]
    datasets = ["examples/my_dataset.py"]
    partition = "test"
"""

from pathlib import Path
from typing import Any

from vsml_bench.data.own_data import SklearnData

# For files below the data root there are, with a line for what is to be read:
#     class Leaves(ImageFolder): train = "leaves"                  one folder of images per label
#     class Flowers(CsvTable):   train, label = "f.csv", "species"
#     class Stones(NpzArrays):   file = "stones.npz"               x_train, y_train, x_test, y_test


class Moons(SklearnData):
    name = "moons"
    train_share = 0.3  # divided by content, since there is no test()

    def train(self, root: Path) -> Any:
        from sklearn.datasets import make_moons

        return make_moons(n_samples=3000, noise=0.2, random_state=0)
