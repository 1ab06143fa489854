"""Model families: what a model's losses, units and measures are."""
