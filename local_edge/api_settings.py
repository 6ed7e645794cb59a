"""A script's settings over the REST API: those of its latest version, its own, and its workers.dev address.

`/settings` is about the latest version, deployed or not: what a script *serves* is said by its deployments alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from local_edge.api_workers import SUBDOMAIN_SETTING
from local_edge.bindings import Account, resolve_bindings, shown_binding
from local_edge.envelope import RefusalError, answer, read_object
from local_edge.metadata import (
    SCRIPT_SETTINGS,
    VERSION_SETTINGS,
    check_metadata,
    read_annotations,
    read_script_settings,
)
from local_edge.upload import check_multipart, read_json_part

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from local_edge.deploy import Deployer
    from local_edge.runtime import Runtime
    from local_edge.scripts import Scripts
    from local_edge.store import Store

NOT_DEPLOYED = (
    "Script edit failed. You attempted to deploy the latest version with modified settings, "
    "but the latest version isn't currently deployed."
)


class SettingsApi:
    """Handlers for settings, script-settings and subdomain below /accounts/{account}/workers/scripts/{script}."""

    def __init__(
        self, *, store: Store, scripts: Scripts, runtime: Runtime, account: Account, deployer: Deployer
    ) -> None:
        self._store = store
        self._scripts = scripts
        self._runtime = runtime
        self._account = account
        self._deployer = deployer

    def routes(self) -> list[Route]:
        script = "/scripts/{script}"
        return [
            Route(f"{script}/settings", self.get_settings, methods=["GET"]),
            Route(f"{script}/settings", self.patch_settings, methods=["PATCH"]),
            Route(f"{script}/script-settings", self.get_script_settings, methods=["GET"]),
            Route(f"{script}/script-settings", self.patch_script_settings, methods=["PATCH"]),
            Route(f"{script}/subdomain", self.get_subdomain, methods=["GET"]),
            Route(f"{script}/subdomain", self.set_subdomain, methods=["POST"]),
            Route(f"{script}/subdomain", self.unset_subdomain, methods=["DELETE"]),
        ]

    async def get_settings(self, request: Request) -> Response:
        return answer(self._describe(request.path_params["script"]))

    def _describe(self, name: str) -> dict[str, Any]:
        version = self._scripts.latest(name)
        return {
            "annotations": dict(version.annotations),
            "bindings": [shown_binding(binding) for binding in version.bindings],
            "compatibility_date": version.compatibility_date,
            "compatibility_flags": version.compatibility_flags,
            **VERSION_SETTINGS,
            **version.metadata,
            **self._script_settings(name),
        }

    def _script_settings(self, name: str) -> dict[str, Any]:
        return {**SCRIPT_SETTINGS, **self._scripts.get(name).settings}

    async def patch_settings(self, request: Request) -> Response:
        """What is named changes; a change of what belongs to versions makes a new one and deploys it."""
        name = request.path_params["script"]
        self._scripts.get(name)
        changes = await _read_settings_form(request)
        check_metadata(changes)
        if code := changes.keys() & {"main_module", "body_part"}:
            raise RefusalError(400, 10021, f"{', '.join(code)} changes by an upload, not by settings")
        strict = request.query_params.get("bindings_inherit") == "strict"
        own = read_script_settings(changes, self._account)
        with self._deployer.changing(name):
            if changes.keys() - own.keys():
                await self._publish_changed(name, changes, strict=strict)
            if own:
                self._scripts.set_settings(name, {**self._script_settings(name), **own})
        return answer(self._describe(name))

    async def _publish_changed(self, name: str, changes: Mapping[str, Any], *, strict: bool) -> None:
        latest = self._deployer.get_deployed_latest(name, code=10214, message=NOT_DEPLOYED)
        bindings = latest.bindings
        if "bindings" in changes or "keep_bindings" in changes:
            bindings = resolve_bindings(
                changes, script=name, scripts=self._scripts, account=self._account, strict=strict
            )
        flags = changes.get("compatibility_flags")
        named = {key: changes[key] for key in VERSION_SETTINGS if changes.get(key) is not None}
        version = self._deployer.derive_version(
            latest,
            annotations=read_annotations(changes.get("annotations"), triggered_by="settings"),
            bindings=bindings,
            compatibility_date=changes.get("compatibility_date") or latest.compatibility_date,
            compatibility_flags=latest.compatibility_flags if flags is None else tuple(flags),
            metadata={**latest.metadata, **named},
        )
        await self._deployer.publish(await self._deployer.inspect(version))

    async def get_script_settings(self, request: Request) -> Response:
        return answer(self._script_settings(request.path_params["script"]))

    async def patch_script_settings(self, request: Request) -> Response:
        name = request.path_params["script"]
        settings = self._script_settings(name)
        body = await read_object(request)
        if not body.keys() <= SCRIPT_SETTINGS.keys():
            raise RefusalError(400, 10026, f"script settings are {', '.join(SCRIPT_SETTINGS)}")
        with self._deployer.changing(name):
            self._scripts.set_settings(name, settings | read_script_settings(body, self._account))
        return answer(self._script_settings(name))

    async def get_subdomain(self, request: Request) -> Response:
        script = self._scripts.get(request.path_params["script"])
        return answer({"enabled": script.subdomain_enabled, "previews_enabled": script.previews_enabled})

    async def set_subdomain(self, request: Request) -> Response:
        name = request.path_params["script"]
        self._scripts.get(name)
        body = await read_object(request)
        enabled, previews = body.get("enabled"), body.get("previews_enabled", body.get("enabled"))
        if not isinstance(enabled, bool) or not isinstance(previews, bool):
            raise RefusalError(400, 10026, "enabled and previews_enabled are booleans")
        if enabled and self._store.read_setting(SUBDOMAIN_SETTING) is None:
            raise RefusalError(400, 10063, "You need a workers.dev subdomain in order to proceed")
        return await self._set_subdomain(name, enabled=enabled, previews=previews)

    async def unset_subdomain(self, request: Request) -> Response:
        name = request.path_params["script"]
        self._scripts.get(name)
        return await self._set_subdomain(name, enabled=False, previews=False)

    async def _set_subdomain(self, name: str, *, enabled: bool, previews: bool) -> Response:
        with self._deployer.changing(name):
            self._scripts.set_subdomain(name, enabled=enabled, previews_enabled=previews)
            await self._runtime.set_enabled(name, enabled=enabled)
        return answer({"enabled": enabled, "previews_enabled": previews})


async def _read_settings_form(request: Request) -> dict[str, Any]:
    check_multipart(request)
    try:
        async with request.form() as form:
            part = form.get("settings")
            text = await part.read() if isinstance(part, UploadFile) else part
    except HTTPException as exc:  # starlette's, for a form that it cannot parse
        raise RefusalError(400, 10006, f"could not parse the form: {exc.detail}") from exc
    if text is None:
        raise RefusalError(400, 10006, "the part 'settings' is missing")
    return read_json_part("settings", text)
