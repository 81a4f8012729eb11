"""Analysis: results of an experiment, receipts of decisions, and previews."""
