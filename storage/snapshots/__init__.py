"""Snapshots: observations from the log, folds, stored snapshots and their verification."""
