"""The `mmkd` command and the terminal app: they show and ask, and decide nothing about training."""

LEAST_COLUMNS, LEAST_ROWS = 60, 16  # of the terminal that the app needs
