"""Questions about `tfds build`: beside a plain TFDS builder, and on several cores.

Imports `measuring`. Begin with `builders`; `building_child` is the process that it times.
"""
