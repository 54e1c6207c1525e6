"""Experiments on a cluster: submit, list, follow and stop jobs, by Ray Jobs, Slurm, KubeRay or ssh.

Importing this package imports none of its modules, and no module of it imports Ray before it calls a head.
"""
