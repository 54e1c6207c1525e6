"""What benchmarks/loader.py and segmentation_loader.py measure with, beside themselves."""
