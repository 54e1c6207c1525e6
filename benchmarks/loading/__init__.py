"""What benchmarks/loader.py measures with, beside itself."""
