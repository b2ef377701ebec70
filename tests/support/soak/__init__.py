"""A real store under load while its processes are killed, stopped, cut off and started again (docs/testing.md)."""
