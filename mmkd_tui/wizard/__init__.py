"""The wizard: from a data set to a preset that runs, step by step."""
