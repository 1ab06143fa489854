"""What an auditor checks without trusting the service: log proofs, signatures, certificates.

No torch, no database, no network. ``docs/evidence.md`` is the format.
"""
