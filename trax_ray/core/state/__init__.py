"""The state of a batch: events in, changes, commands out."""
