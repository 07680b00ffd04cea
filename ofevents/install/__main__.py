"""`make manifests`: write the generated files into the folder that is named."""

from __future__ import annotations

import sys
from pathlib import Path

from ofevents.install.files import write

if __name__ == "__main__":
    write(Path(sys.argv[1]))
