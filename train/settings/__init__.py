"""From flags to settings: what was asked, and what it resolves to for the data and the hardware.

Imports `records` and `models`. Begin with `config`.
"""
