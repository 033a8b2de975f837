"""Questions about `tfds build`: beside a plain TFDS builder, and on several cores.

Imports `builders`, `records.sets`, `records.system` and `measuring`. Begin with `builders`;
`building_child` is the process that it times. Test: tests/benchmarks/build/builders_test.py.
"""
