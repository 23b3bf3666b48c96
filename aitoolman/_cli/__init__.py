"""The command line: `main` finds the command, and each command is one file beside it.

A command's module has ``add_arguments(parser)`` and ``run(arguments)``, which returns the exit
code; it is imported only when its command is given.
"""
