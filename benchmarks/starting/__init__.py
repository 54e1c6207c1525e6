"""What cold starts and the demo are measured with: typed commands, what they start, and sixteen ranks."""
