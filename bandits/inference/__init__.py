"""What may be claimed from adaptively collected results, and how surely.

`claims` decides which method's conditions hold and makes the findings; `sequences` are exact for
constant rates, `aipw` holds whatever the rates do; `sample_ratio` and `drift` watch the conditions.
"""
