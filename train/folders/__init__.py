"""Run folders: written while a run trains (`run_folder`), opened when it is finished.

Imports `records`, `train.settings` and lower rooms. Begin with `run_folder`.
"""
