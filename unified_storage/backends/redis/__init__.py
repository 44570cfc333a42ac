"""Redis: one node, or a cluster with every record and its logs in one slot."""
