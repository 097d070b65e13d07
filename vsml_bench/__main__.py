"""`python -m vsml_bench`."""

import sys

from vsml_bench.cli import main

sys.exit(main())
