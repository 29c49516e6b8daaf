"""Records in one place, and the archive of a quarter."""
