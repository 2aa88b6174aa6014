"""``edgec worker``: run stages for a cluster."""

from __future__ import annotations

import click


@click.command()
@click.argument("scheduler", metavar="ADDRESS")
def command(scheduler: str) -> None:
    """Run stages for the Dask scheduler at ADDRESS, tcp://HOST:PORT, one at a time, until it ends.

    The worker says which packages and which instruction set it has, and gets what fits. Results travel by the shared
    cache (EDGEC_SHARED_CACHE), which must be the same for all. Start one for each core that it may use.
    """
    from edgec.pipeline.matrix.cluster import work_for

    work_for(scheduler)
