"""The command line: a file a command group, thin; what is heavy is imported within the commands."""
