"""One file per family: the paper's table, a builder, and ``SPECS``, a tuple of ``ModelSpec``."""
