"""Decoded examples from shards: unit by unit, kept in memory or on disk, or streamed.

Imports all rooms named before it here: system, sets, shards, decoding, ordering. Begin with `load`.
"""
