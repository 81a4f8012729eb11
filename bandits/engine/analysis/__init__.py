"""Telling: how an experiment does, why somebody got what they got, and what others would get."""
