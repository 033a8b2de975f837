"""From result files to pages, plots and tables; nothing is measured here.

Imports `records.system` and `measuring`. Begin with `markdown`, which also chooses the rows of the
README; test: tests/benchmarks/report_test.py.
"""
