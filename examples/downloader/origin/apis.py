"""The JSON services: Unpaywall v2, Crossref works, Europe PMC search. The same shapes, as far as a downloader reads them.

    routes = apis(world)        # {"unpaywall": [...], "crossref": [...], "mirror": [...]}

Whose answer misbehaves is said in `plan`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .plan import VERSIONS, artifact_of, doi_of, work_of
from .world import World, received

Record = dict[str, Any]

# The five versions as Unpaywall names them (it knows the first, third and fourth; the others follow its pattern).
UNPAYWALL_VERSION = {
    "vor": "publishedVersion",
    "cvor": "correctedVersion",
    "am": "acceptedVersion",
    "smur": "submittedVersion",
    "ao": "originalVersion",
}
CROSSREF_LINKS = ("vor", "cvor", "am")


def apis(world: World) -> dict[str, list[Route]]:
    """The routes of each JSON service."""

    async def unpaywall(request: Request) -> Response:
        return await _answer(world, request, "unpaywall", work_of(request.path_params["doi"]), _unpaywall_record)

    async def crossref(request: Request) -> Response:
        return await _answer(world, request, "crossref", work_of(request.path_params["doi"]), _crossref_record)

    async def mirror(request: Request) -> Response:
        doi = request.query_params.get("query", "").removeprefix("DOI:").strip('"')
        return await _answer(world, request, "mirror", work_of(doi), _mirror_record)

    return {
        "unpaywall": [Route("/v2/{doi:path}", unpaywall)],
        "crossref": [Route("/works/{doi:path}", crossref)],
        "mirror": [Route("/europepmc/webservices/rest/search", mirror)],
    }


async def _answer(
    world: World, request: Request, service: str, work: int | None, record: Callable[[World, int], Record | None]
) -> Response:
    await received(request, service, work)
    manner = "cached" if work is None else world.plan.answer(service, work)
    if work is not None and manner in ("throttled", "flaky") and world.first(f"{service} {manner}", work):
        return world.throttled(work) if manner == "throttled" else Response("try again", 500)
    content = None if work is None else record(world, work)
    freshness = "max-age=0" if manner == "revalidated" else "max-age=3600"
    if content is None:
        return JSONResponse({"error": True, "message": "not found"}, 404, {"Cache-Control": freshness})
    etag = '"' + hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16] + '"'
    headers = {"ETag": etag, "Cache-Control": freshness}
    if request.headers.get("If-None-Match") == etag:
        return Response(status_code=304, headers=headers)
    return JSONResponse(content, headers=headers)


def _unpaywall_record(world: World, work: int) -> Record | None:
    known = world.plan.knowledge(work)
    if known in ("unlisted", "unknown"):
        return None
    locations = []
    for version in VERSIONS:
        artifact = artifact_of(work, version)
        withheld = known == "hidden" or (known == "no_pdf" and version in ("vor", "cvor"))
        urls = [None if withheld else world.file_url(artifact)]
        if not withheld and world.plan.second_copy(artifact):
            urls.append(f"{world.urls['repository']}/copy/{artifact}.pdf")
        locations += [
            {
                "url_for_pdf": url,
                "url_for_landing_page": f"{world.urls['doi']}/{doi_of(work)}",
                "version": UNPAYWALL_VERSION[version],
                "host_type": "publisher" if url and "/pdf/" in url and version in ("vor", "cvor") else "repository",
            }
            for url in urls
        ]
    return {"doi": doi_of(work), "is_oa": True, "best_oa_location": locations[0], "oa_locations": locations}


def _crossref_record(world: World, work: int) -> Record | None:
    known = world.plan.knowledge(work)
    if known == "unknown":
        return None
    links = [
        {
            "URL": world.file_url(artifact_of(work, version)),
            "content-type": "application/pdf",
            "content-version": version,
            "intended-application": "text-mining",
        }
        for version in CROSSREF_LINKS
    ]
    message = {"DOI": doi_of(work), "title": [f"Work {work}"], "link": [] if known == "hidden" else links}
    return {"status": "ok", "message-type": "work", "message": message}


def _mirror_record(world: World, work: int) -> Record | None:
    url = {
        "documentStyle": "pdf",
        "availabilityCode": "OA",
        "url": f"{world.urls['mirror']}/articles/{work}?pdf=render",
    }
    found = [{"doi": doi_of(work), "fullTextUrlList": {"fullTextUrl": [url]}}]
    mirrored = world.plan.knowledge(work) in ("indexed", "unlisted")
    return {"hitCount": len(found) * mirrored, "resultList": {"result": found if mirrored else []}}
