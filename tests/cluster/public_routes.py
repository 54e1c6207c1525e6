"""Routes of the servers that expflow starts or tells its users to start: which answer without a token, and why; and
what they answer with the right one."""

PUBLIC: dict[str, dict[str, str]] = {  # server -> path -> reason; `*` is every path of a server
    "Ray's dashboard": {
        "/": "the page's own frame, which asks for the token; it holds nothing of the cluster",
        "/favicon.ico": "a picture",
        "/api/authentication_mode": "says that a token is wanted, so that the page can ask for it",
        "/api/authenticate": "takes the token that the page was given, and checks it",
        "/api/healthz": "one word, for whoever restarts a head that died",
        "/api/gcs_healthz": "the same of the head's store",
        "/static/": "the page's own files",
    },
    "Ray's agent": {
        "/api/healthz": "one word, for whoever restarts a node that died",
        "/api/local_raylet_healthz": "one word, for whoever restarts a node that died",
    },
    "MLflow's server of `expflow ui`": {
        "*": "on this machine's loopback, for whoever works on it: MLflow has no users here. What a page of another"
        " origin sends is refused on every route, and so is every other name of the machine (test_mlflow_routes.py);"
        " MLflow's assistant, which would run programs, is switched off for everybody",
    },
    "MLflow's server of `expflow ui`, asked by another name than this machine's": {
        "/health": "one word, for whoever waits until it is up",
        "/version": "the version of MLflow",
    },
    "MLflow's server of `expflow.services`": {
        "*": "as that of `expflow ui`; nothing but loopback reaches it (tests/tracking/test_server_stack.py)",
    },
    "Prometheus of `expflow.services`": {
        "*": "numbers of sweeps that it reads on this machine's loopback, where alone it listens; it takes nothing in."
        " The database and the S3 store beside it ask for a password and for keys",
    },
    "exporter of metrics": {
        "*": "numbers of a sweep, on request alone, on this machine's loopback unless the site file says otherwise; it"
        " takes nothing in",
    },
}

_NO_JOB = "there is no job x"
_SWITCHED_OFF = "Ray refuses it to everybody until it is switched on"
_NO_SERVE = "Ray Serve runs nothing here, or is not installed"

ANSWERS: dict[str, dict[str, tuple[set[int], str]]] = {
    "Ray's dashboard": {
        "POST /api/jobs/": ({500}, "an empty text is no job; that a job is taken is tested in test_ray_jobs.py"),
        "GET /api/jobs/{job_or_submission_id}": ({404}, _NO_JOB),
        "DELETE /api/jobs/{job_or_submission_id}": ({404}, _NO_JOB),
        "GET /api/jobs/{job_or_submission_id}/logs": ({404}, _NO_JOB),
        "GET /api/jobs/{job_or_submission_id}/logs/tail": ({404}, _NO_JOB),
        "POST /api/jobs/{job_or_submission_id}/stop": ({404}, _NO_JOB),
        "GET /api/packages/{protocol}/{package_name}": ({500}, "x is no protocol of packages"),
        "PUT /api/packages/{protocol}/{package_name}": ({500}, "x is no protocol of packages"),
        "GET /api/grafana_health": ({500}, "there is no Grafana"),
        "GET /api/prometheus_health": ({500}, "there is no Prometheus"),
        "GET /api/serve/applications/": ({200, 501}, _NO_SERVE),
        "PUT /api/serve/applications/": ({500, 501}, _NO_SERVE),
        "DELETE /api/serve/applications/": ({200, 500, 501}, _NO_SERVE),
        "POST /api/v1/applications/{application_name}/deployments/{deployment_name}/scale": ({400, 501}, _NO_SERVE),
        "* /api/task_events": ({404}, _SWITCHED_OFF),
        "* /api/task_events/query": ({404}, _SWITCHED_OFF),
        "* /api/v0/platform_events": ({404}, _SWITCHED_OFF),
        "* /api/healthz": ({404}, "the agents have it, and the dashboard lets it through"),
        "GET /api/train/v2/runs": ({500}, "nothing of Ray Train has run"),
        "GET /api/train/v2/runs/v1": ({500}, "nothing of Ray Train has run"),
        "GET /api/v0/delay/{delay_s}": ({500}, "x is no number"),
        "GET /api/v0/logs": ({400}, "no node is named"),
        "GET /api/v0/logs/{media_type}": ({500}, "x is no kind of log"),
        "GET /nodes": ({500}, "no view is named"),
        "POST /report_events": ({400}, "an empty text is no event"),
        "GET /memory_profile": ({403}, _SWITCHED_OFF),
        "GET /task/cpu_profile": ({403}, _SWITCHED_OFF),
        "GET /task/traceback": ({403}, _SWITCHED_OFF),
        "GET /worker/cpu_profile": ({403}, _SWITCHED_OFF),
        "GET /worker/gpu_profile": ({403}, _SWITCHED_OFF),
        "GET /worker/jax_profile": ({403}, _SWITCHED_OFF),
        "GET /worker/traceback": ({403}, _SWITCHED_OFF),
        "GET /static/": ({403}, "the files in it are served, and not their list"),
        "POST /api/authenticate": ({200}, "the token is right"),
    },
    "Ray's agent": {
        "POST /api/job_agent/jobs/": ({500}, "an empty text is no job"),
        "DELETE /api/job_agent/jobs/{job_or_submission_id}": ({404}, _NO_JOB),
        "GET /api/job_agent/jobs/{job_or_submission_id}/logs": ({404}, _NO_JOB),
        "GET /api/job_agent/jobs/{job_or_submission_id}/logs/tail": ({404}, _NO_JOB),
        "POST /api/job_agent/jobs/{job_or_submission_id}/stop": ({404}, _NO_JOB),
    },
}
"""With the right token: server -> method and path -> statuses, and why; `*` is every method.

Whatever is not named here is answered by 200 where the route has the method, which is GET, and by 405 where it has not.
"""

OF_SOME_RAYS = {"/api/task_events", "/api/task_events/query", "/worker/jax_profile", "/worker/gpu_profile"}
"""Paths above that not every Ray has that we take."""
