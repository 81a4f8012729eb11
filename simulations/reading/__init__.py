"""From files and untyped values to our types, with every fault at its place.

`values` is for what TOML or JSON gave, `logs` for CSV files with a row for each recipient.
"""
