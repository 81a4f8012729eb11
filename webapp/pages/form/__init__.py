"""The form that declares an experiment: fields as typed, the declaration, and its faults."""
