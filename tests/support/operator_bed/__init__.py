"""The operator in this process on a real API server, with what a cluster would do beside it."""
