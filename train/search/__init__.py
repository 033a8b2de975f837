"""Many runs: trials of a sweep, folds trained at once.

Imports the rooms below it. Begin with `trial`.
"""
