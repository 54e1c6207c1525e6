"""The commands and their arguments, a module for each group; each `register` adds its group to the app.

Nothing here may import more than typer and the standard library before a command runs: what a command needs is
imported inside it, so that ``expflow --help`` and shell completion answer at once.
"""
