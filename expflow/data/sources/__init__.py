"""Where samples come from: one module per source, opened through its spec. Importing this package imports no torch."""
