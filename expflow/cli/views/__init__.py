"""What the commands print: a module renders what one group of commands, or one command, shows."""
