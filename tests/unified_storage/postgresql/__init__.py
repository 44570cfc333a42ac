"""PostgreSQL alone: its promises as a backend, its pool, and what happens when connections or servers go."""
