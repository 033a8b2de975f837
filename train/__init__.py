"""Training: flags to a run folder. `python -m train.run --help` explains the flags.

The modules here are the commands. They import all rooms of `train`, `models` and `records`. Begin
with `run`; its test is tests/train/run_test.py, and each command's test has its name.
"""
