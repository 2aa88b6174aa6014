"""Many builds from one file: models x targets x precisions x data, a bundle each, one table."""
