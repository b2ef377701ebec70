"""Models of a server, of clients' disks and of what people do to them, for tests of the sync rule."""
