"""Schedules by name: learning rate and momentum as pure functions of the step, so that resuming needs no state."""
