"""The ``razor`` command: everything composed, everything imported only when it is needed."""
