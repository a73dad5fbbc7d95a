"""The screens of the terminal app; each is one file."""
