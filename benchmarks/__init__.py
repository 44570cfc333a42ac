"""Side by side: raw drivers, unified-storage and the session stores of agent frameworks, on the same work."""
