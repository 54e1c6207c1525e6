"""``python -m expflow`` is the command ``expflow``."""

from expflow.cli import main

if __name__ == "__main__":
    main()
