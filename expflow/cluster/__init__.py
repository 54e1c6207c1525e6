"""An experiment on a Ray cluster, through Ray Jobs. Importing this package does not import Ray; its functions do."""

from expflow.cluster.following import follow
from expflow.cluster.head import DEFAULT_ADDRESS, Token, answers, find_token, resolve_address
from expflow.cluster.jobs import Job, find, jobs, logs, looks_like_job, stop
from expflow.cluster.package import Package, pack, project_folder
from expflow.cluster.sending import Submitted, submit

__all__ = [
    "DEFAULT_ADDRESS",
    "Job",
    "Package",
    "Submitted",
    "Token",
    "answers",
    "find",
    "find_token",
    "follow",
    "jobs",
    "logs",
    "looks_like_job",
    "pack",
    "project_folder",
    "resolve_address",
    "stop",
    "submit",
]
