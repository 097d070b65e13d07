"""What does it ignore? One change of the data at a time, and an invariance card."""

from vsml_bench.studies import Study

STUDY = Study(
    sections="vsml_bench.studies.robustness.board:sections",
    pictures="vsml_bench.studies.robustness.board:pictures",
)
