"""All of Moorage in one process, on a virtual clock, with faults that a seed decides (docs/testing.md)."""
