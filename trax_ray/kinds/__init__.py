"""What an attempt does: one plain function per kind of task, callable and testable without Ray."""
