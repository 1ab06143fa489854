"""The tables' history: one script per change, run by ``registry.schema``."""
