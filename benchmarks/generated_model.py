"""Writes a version of a network that costs next to nothing: the mean colour and one layer. It shows the server itself.

    python benchmarks/generated_model.py models/small
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the tests have its builder

from tests.integration.serving.tiny_model import export_tiny_model  # noqa: E402

if __name__ == "__main__":
    export_tiny_model(Path(sys.argv[1]) / "1", size=224, pooled=True)
