"""``python -m aitoolman``, the same as the command ``aitoolman``."""

from __future__ import annotations

import sys

from ._cli.main import main

if __name__ == "__main__":
    sys.exit(main())
