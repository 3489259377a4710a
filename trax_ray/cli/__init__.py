"""The command line: flags to a BatchSpec, progress, a summary, exit codes."""
