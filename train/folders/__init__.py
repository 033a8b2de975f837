"""Run folders: written while a run trains, opened when it is finished.

Imports the rooms below it. Begin with `run_folder`.
"""
