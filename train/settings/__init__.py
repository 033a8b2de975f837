"""From flags to settings: what was asked (`config`), and what it became (`resolved`).

Imports `records`, `models` and `train.devices`. Begin with `resolve`.
"""
