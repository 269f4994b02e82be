"""A process that does nothing but serve: what it prints is the most memory it ever held.

`python -m miaotui.footprint FACTS ROWS`; imports no torch but for a torch engine.
"""

import json
import sys
from pathlib import Path

from safetensors.numpy import load_file

from miaotui.cascade import open_stages
from miaotui.engines import engine_adapter
from miaotui.hardware import peak_memory_bytes
from miaotui.tasks.base import rows_from_arrays


def served_bytes(facts: str, rows: str) -> int:
    """Opens what lies in a folder and answers the rows of a safetensors file."""
    given, arrays = json.loads(facts), load_file(rows)
    engine = engine_adapter.validate_python(given["engine"])
    opened = open_stages(engine, Path(given["folder"]), given["cores"])
    with opened.warmed_up(given["longest_row"]) as runner:
        runner.run(rows_from_arrays(arrays))
        return peak_memory_bytes()


if __name__ == "__main__":
    sys.stdout.write(str(served_bytes(*sys.argv[1:])))
