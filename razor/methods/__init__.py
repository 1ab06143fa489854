"""Unlearning methods, one a file. They see protocols only, never a family."""
