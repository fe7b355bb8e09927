"""Messages at rest: the packs (bodies) and the database (everything about them)."""
