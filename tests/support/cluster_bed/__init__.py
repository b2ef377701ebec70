"""What tests on a cluster are made of: kubectl, kind, helm, and clients that try again."""
