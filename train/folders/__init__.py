"""Run folders: written while a run trains (`run_folder`), opened when it is finished.

Imports `records` and `settings`. Begin with `run_folder`; test:
tests/train/folders/run_folder_test.py.
"""
