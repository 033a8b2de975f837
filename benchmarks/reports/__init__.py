"""From result files to pages, plots and tables; nothing is measured here.

Imports `measuring`. Begin with `markdown`, which also chooses the rows of the README.
"""
