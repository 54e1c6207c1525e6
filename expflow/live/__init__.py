"""The table that shows a sweep while it runs, on a terminal or in a notebook; the command line and Python share it."""
