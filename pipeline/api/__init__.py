"""What ``import edgec`` offers: the command line's jobs as functions, on the same functions below."""
