"""Reports of a simulation: numbers, tables, charts and files.

`summary` computes the numbers, `result_tables` and `charts` show them, `result` gives a researcher
all of these, and `exports` writes files.
"""
