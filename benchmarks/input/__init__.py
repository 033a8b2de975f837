"""Questions about input: readers, libraries, limits, growth, emulated accelerators.

Imports `measuring`. Begin with `readers`.
"""
