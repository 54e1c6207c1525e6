"""Trainings in plain PyTorch, as somebody writes them who has nothing but torch: the peers of steps and of the demo."""
