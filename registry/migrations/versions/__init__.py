"""One script per change of the tables; each can be undone."""
