"""The live migration as a model that is small enough to walk through every interleaving."""
