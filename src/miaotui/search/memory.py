"""Peak memory of a process that does nothing but serve what a recipe was lowered to."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from safetensors.numpy import save_file

from miaotui.errors import EngineFailed
from miaotui.recipe import Recipe
from miaotui.search.context import Context
from miaotui.tasks.base import rows_to_arrays


def serving_memory_bytes(recipe: Recipe, context: Context, folder: Path) -> int:
    """Opens `folder` in a process of its own and answers the selection rows there."""
    rows = context.selection.rows
    facts = {
        "engine": recipe.engine.model_dump(mode="json"),
        "folder": str(folder),
        "cores": context.cores,
        "longest_row": context.longest_row,
    }
    with tempfile.TemporaryDirectory() as work:
        path = Path(work, "rows.safetensors")
        save_file(rows_to_arrays(rows), str(path))
        command = [sys.executable, "-m", "miaotui.footprint", json.dumps(facts), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise EngineFailed(f"{recipe.engine.name}: its memory could not be measured: {reason}")
    return int(done.stdout)
