"""The version of expflow. Imports nothing, so that everything may import it."""

__version__ = "0.1.0"
