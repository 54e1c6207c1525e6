"""Ranks that start warm: a template process imports torch and Lightning once, and each rank is a fork of it.

:mod:`~expflow.training.template.server` is the template, :mod:`~expflow.training.template.process` the driver's handle
of it, and :mod:`~expflow.training.template.shim` what Ray executes in place of Python. Where there is no template, or
it does not answer, the shim executes Python, and the rank imports what it needs by itself.

Importing this package imports no torch.
"""
