"""From flags to settings: what was asked (`config`), and what it became (`resolved`).

Imports `records.system` and `records.sets`, `models` and `devices`. Begin with `resolve`; tests:
tests/train/settings.
"""
