"""Exit codes of the command line; 0 is success. Code 2 is also what typer uses for wrong usage."""

INCOMPLETE = 1  # the run stopped early, or `verify` found problems
CONFIG = 2  # wrong usage, configuration, checkpoint or storage: nothing was started
FAILED_ROWS = 3  # complete, but some rows failed, or `judge` rejected some
