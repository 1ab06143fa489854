"""Evaluations. A probe measures on test pictures and leaves the model as found."""
