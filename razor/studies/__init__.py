"""What a run asks of each kind of model: what it knows, learns from, reads and measures."""
