"""The project's own attacks on itself: each class of them tries one kind of damage, and counts who survives it."""
