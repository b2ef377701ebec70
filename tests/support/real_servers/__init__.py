"""Real etcd, SeaweedFS and MinIO for tests: on free loopback ports, with data of their own that goes afterwards."""
