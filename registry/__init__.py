"""What is remembered: jobs, models, versions, patches, the audit log, messages to send, blobs.

Every function that touches rows takes an open session and never commits: the caller's
``Database.transaction()`` does, at the edge. ``now`` is always passed in, as an aware datetime.
What comes back are frozen records, never rows.
"""
