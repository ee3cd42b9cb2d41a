"""Data sets: where images come from, and the file that holds them."""
