"""From flags to settings: what was asked (`config`), and what it became (`resolved`).

Imports `records`, `models`, `devices`, and of `measures` the names of the figures. Begin with
`resolve`; tests: tests/train/settings.
"""
