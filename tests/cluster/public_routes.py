"""Routes that answer without a token, of the servers that expflow starts or tells its users to start, with reasons.

Server -> path -> reason. `*` is every path of a server.
"""

PUBLIC: dict[str, dict[str, str]] = {
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
        "*": "on this machine's loopback, for whoever works on it; what a page of another origin sends is refused"
        " (tests/tracking/test_tracking_server.py). The one of cluster/mlflow, which others reach, wants a login",
    },
    "exporter of metrics": {
        "*": "numbers of a sweep, on request alone, on this machine's loopback unless the site file says otherwise; it"
        " takes nothing in",
    },
}
