"""A Ray Jobs client whose connection does what a test says."""

from types import SimpleNamespace


class FakeClient:
    """Jobs by id. ``streams``: for each connection that follows a log, the chunks it brings and how it ends."""

    def __init__(self, **jobs):
        self.jobs = {
            name.replace("_", "-"): SimpleNamespace(
                submission_id=name.replace("_", "-"),
                job_id=None,
                status=status,
                entrypoint="",
                message="",
                metadata={},
                start_time=1000,
                end_time=None,
                driver_exit_code=None,
            )
            for name, status in jobs.items()
        }
        self.submitted = []
        self.streams = []
        self.log = ""
        self.on_submit = lambda: None
        self.connections = 0

    def get_address(self):
        return "http://fake:8265"

    def get_job_info(self, job):
        if job not in self.jobs:
            raise RuntimeError(f"Request failed with status code 404: Job {job} does not exist.")
        return self.jobs[job]

    def list_jobs(self):
        return list(self.jobs.values())

    def get_job_logs(self, job):
        return self.log

    def submit_job(self, **request):
        self.submitted.append(request)
        self.on_submit()
        self.add(request["submission_id"], "PENDING")

    def add(self, job, status):
        self.jobs |= {job: next(iter(FakeClient(x=status).jobs.values()))}
        self.jobs[job].submission_id = job

    async def tail_job_logs(self, job):
        self.connections += 1
        chunks, end = self.streams.pop(0) if self.streams else ([self.log], lambda: None)
        for chunk in chunks:
            yield chunk
        result = end()
        if hasattr(result, "__await__"):
            await result
