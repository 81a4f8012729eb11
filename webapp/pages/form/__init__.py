"""The form that declares an experiment: what was typed, what it means, what does not fit."""
