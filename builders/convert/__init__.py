"""`python -m builders.convert`: a table, a folder of pictures or texts as a prepared set.

Imports `records` and the builders' base. Begin with `source`, what a conversion is, then `tables`
(rows to numbers), `pictures` and `texts`; `converted_set` writes it. Tests: tests/builders/convert.
"""
