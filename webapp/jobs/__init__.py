"""Files that people send by a page: kept for a few days, worked through behind the page.

`folder` keeps them and what is known of them; `choosing` and `reporting` work through one;
`working` does that in a thread, one at a time for each file, and goes on where it was cut off.
"""
