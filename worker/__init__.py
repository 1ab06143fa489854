"""Celery: where rows meet tensors.

The parent process holds no torch: only the prefork child imports ``worker.runner``, after the fork.
"""
