"""The verbs of the command line, a file each: `add_options` says what a verb takes, `run` does it,
prints, and returns the exit code."""
