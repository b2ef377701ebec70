"""Observe → plan → apply → status, one pass at a time for one resource (DESIGN.md, The reconcile)."""
