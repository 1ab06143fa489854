"""The science: families, units, methods, probes, patches and reference models.

Knows tensors and files, not HTTP, queues or databases. Start reading at ``razor.unlearn``.
"""
