"""`python link_packages.py VENV`: lets this Python import what VENV has installed, after its own.

asv makes an environment of its own for the commits that it measures. It needs the same packages as
the project's, which are gigabytes, and only vsml-bench itself is to differ from commit to commit.
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path


def main(venv: Path) -> None:
    """Writes the path file; SystemExit where VENV is not there or of another Python."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = venv / "lib" / version / "site-packages"
    if not packages.is_dir():
        raise SystemExit(f"{venv} has no packages for {version}; run `make install` first.")
    own = Path(sysconfig.get_path("purelib"))
    (own / "project-packages.pth").write_text(f"{packages}\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
