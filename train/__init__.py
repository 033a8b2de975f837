"""Training: flags to a run folder. `python -m train.run --help` explains the flags."""
