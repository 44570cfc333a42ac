"""Storages by engine; each is imported when a URL asks for it."""
