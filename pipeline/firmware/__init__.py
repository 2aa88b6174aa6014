"""A bundle as a firmware project that builds: ``edgec project``."""
