"""Attacks on edgec, from a process that forks: libraries of numerics start no threads in it, since no fork has them."""

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
