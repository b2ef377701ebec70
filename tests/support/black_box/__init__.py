"""What the protocol tests are made of: a running store, users who talk to it, and a client of the unmarked part."""
