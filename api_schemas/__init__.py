"""What crosses a boundary: requests, views, method parameters, reports, patch manifests, problems.

The ground of the import graph: pydantic and the standard library, nothing else. Input schemas
forbid unknown fields; output schemas have no defaults, so a writer cannot forget a field.
"""
