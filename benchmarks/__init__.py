"""What the service costs: load on real processes beside a bare FastAPI, and long queues.

Everything happens on the loopback and is bounded. ``load`` is the way in.
"""
