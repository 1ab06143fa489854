"""The HTTP front, thin: it validates, remembers and hands out; it never touches a tensor.

``service.app.create_app`` builds the application, ``python -m service`` serves it.
"""
