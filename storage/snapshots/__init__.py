"""What the learner reads and leaves: observations out of the log, folds, snapshots, and proof."""
