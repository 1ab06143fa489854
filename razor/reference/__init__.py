"""Invented drawn people and objects, and the small real networks trained on them."""
