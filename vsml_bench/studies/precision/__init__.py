"""What does mixed precision do to accuracy?"""

from vsml_bench.studies import Study

STUDY = Study(sections="vsml_bench.studies.precision.board:sections")
