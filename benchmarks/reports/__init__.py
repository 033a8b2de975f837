"""From result files to pages, plots and tables.

Imports `measuring`. Begin with `markdown`.
"""
