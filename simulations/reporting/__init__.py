"""What a simulation found, as numbers, tables, figures and files.

`findings` computes what is reported, `tables` and `figures` show it, `report` puts both on a page,
`exports` writes files, and `result` is all of that in the hands of a researcher.
"""
