"""Is it backpropagation? Networks of synapses that imitate it, beside the algorithm itself."""

from vsml_bench.studies import Study

STUDY = Study(
    protocol="vsml_bench.studies.cloning.protocol:Cloning",
    learners=("vsml_bench.studies.cloning.learner", "vsml_bench.studies.cloning.backpropagation"),
    sections="vsml_bench.studies.cloning.board:sections",
)
