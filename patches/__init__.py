"""Patches as files: read, check, splice, apply, revert. Standard library and schemas only.

``docs/patch_format.md`` is the format. Four doors: :mod:`patches.container` (one safetensors file),
:mod:`patches.folder` (one patch), :mod:`patches.splice` (patched weights as a stream) and
:mod:`patches.apply` (patched weights as a folder).
"""
