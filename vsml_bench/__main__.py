"""`python -m vsml_bench`."""

import sys

if not getattr(sys.flags, "safe_path", False):  # of Python 3.11
    del sys.path[0]  # the working folder, which the script does not import from either

from vsml_bench.cli import main

sys.exit(main())
