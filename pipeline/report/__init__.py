"""One self-contained page per build, or for many builds side by side."""
