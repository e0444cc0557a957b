"""The HTTP port: /healthz for probes, and the state of the model in TensorFlow Serving's form.

On aiohttp because its server is made to be embedded in an event loop that is not its own.
"""

from __future__ import annotations

from aiohttp import web

from serving.models import Models, State, Version


class Rest:
    """The routes; `draining` is set when the server stops."""

    def __init__(self, models: Models) -> None:
        self.draining = False
        self._models = models

    def application(self) -> web.Application:
        """What aiohttp serves."""
        application = web.Application()
        application.router.add_get("/healthz", self._health)
        application.router.add_get("/v1/models/{name}", self._status)
        application.router.add_get("/v1/models/{name}/versions/{version}", self._status)
        return application

    async def _health(self, request: web.Request) -> web.Response:  # noqa: ARG002
        serving = self._models.available and not self.draining
        return web.Response(text="SERVING\n" if serving else "NOT_SERVING\n", status=200 if serving else 503)

    async def _status(self, request: web.Request) -> web.Response:
        name, wanted = request.match_info["name"], request.match_info.get("version")
        versions = {str(number): version for number, version in sorted(self._models.versions.items())}
        if name != self._models.name:
            return _not_found(f"no model '{name}'; this server has '{self._models.name}'")
        if wanted is not None and wanted not in versions:
            known = ", ".join(versions) or "none"
            return _not_found(f"model '{name}' has no version {wanted}; this server has {known}")
        return web.json_response({"model_version_status": [
            _version_status(number, version) for number, version in versions.items() if wanted in (None, number)]})


def _version_status(number: str, version: Version) -> dict[str, object]:
    failed = version.state is State.END and version.error
    return {"version": number, "state": version.state.name,
            "status": {"error_code": "UNKNOWN" if failed else "OK", "error_message": version.error}}


def _not_found(message: str) -> web.Response:
    return web.json_response({"error": message}, status=404)
