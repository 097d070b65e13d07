"""How does it learn? How sure it is after how many examples, and what one example does."""

from vsml_bench.studies import Study

STUDY = Study(
    protocol="vsml_bench.studies.introspection.protocol:Introspection",
    sections="vsml_bench.studies.introspection.board:sections",
)
