"""Storages on SQL engines: every verb once, as steps that each engine's connection carries out."""
