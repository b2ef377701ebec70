"""The only Kubernetes I/O: requests, watches, and the Lease that says who may write. Over aiohttp, see the ADR."""
