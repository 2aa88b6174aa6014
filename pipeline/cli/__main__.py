"""``python -m edgec.pipeline.cli``: the same command line where no script was installed."""

import sys

from edgec.pipeline.cli import main

sys.exit(main())
