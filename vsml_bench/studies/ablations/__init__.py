"""Which part of VSML matters? One choice changed at a time, all meta-trained alike."""

from vsml_bench.studies import Study

# Its learners are found by their module only: there are many, and one suite names them.
STUDY = Study(sections="vsml_bench.studies.ablations.board:sections")
