"""The `mmkd` command and the terminal app: they show and ask, and decide nothing about training."""
