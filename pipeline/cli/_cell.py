"""One cell of a matrix in a process of its own: a request on standard input, one line of JSON on standard output.

python -m edgec.pipeline.cli._cell
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from edgec.pipeline.cli._ending import end_cleanly


def main() -> None:
    """``{"cell", "folder", "only_stages", "scheduler"}`` in; ``{}``, or a refusal's code, message and hint, out."""
    end_cleanly()
    from edgec.pipeline.core.errors import EdgecError
    from edgec.pipeline.core.toml_file import validate
    from edgec.pipeline.matrix.plan import Cell
    from edgec.pipeline.matrix.run import work_here

    request = json.loads(sys.stdin.read())
    try:
        cell = validate(Cell, request["cell"], Path("request"), "bad-matrix")
        work_here(cell, Path(request["folder"]), request["only_stages"], request["scheduler"])
    except EdgecError as error:
        answer = {"error": [error.code, error.message, error.hint]}
    else:
        answer = {}
    sys.stdout.write(f"\n{json.dumps(answer)}\n")


if __name__ == "__main__":
    main()
