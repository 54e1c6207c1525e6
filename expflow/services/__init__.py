"""The servers of a group on one machine, as plain processes: PostgreSQL, an S3 store, MLflow, Prometheus.

    python -m expflow.services up|status|down

``cluster/compose.yaml`` is the same for those with containers. Everything listens on loopback; passwords are drawn at
the first start. What a service needs beside expflow comes with the extra ``services``, PostgreSQL and Prometheus from
the system's packages.
"""
