"""doi.org and the publishers' landing pages, which name their PDF in `<meta name="citation_pdf_url">`.

    routes = pages(world)       # {"doi": [...], "publisher-a": [...], "publisher-b": [...]}

Who knows which work is said in `plan`.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from .plan import artifact_of, doi_of, work_of
from .world import World, publisher_of, received

PAGE = """<!doctype html>
<html><head><title>Work {work}</title>
<meta name="citation_doi" content="{doi}">
{pdf_line}</head><body><h1>Work {work}</h1></body></html>
"""
PDF_LINE = '<meta name="citation_pdf_url" content="{pdf}">\n'
THROTTLE_EVERY = 12  # every twelfth work's landing page is throttled once
SILENT_EVERY = 4  # every fourth work's landing page names no PDF


def pages(world: World) -> dict[str, list[Route]]:
    """The routes of doi.org and of both publishers' pages."""

    async def doi(request: Request) -> Response:
        work = work_of(request.path_params["doi"])
        await received(request, "doi", work)
        if work is None or world.plan.knowledge(work) == "unknown":
            return HTMLResponse("<h1>DOI not found</h1>", 404)
        return RedirectResponse(f"{world.urls[publisher_of(work)]}/article/{work}", 302)

    async def landing(request: Request) -> Response:
        work = request.path_params["work"]
        await received(request, publisher_of(work), work)
        if work % THROTTLE_EVERY == 0 and world.first("landing", work):
            return world.throttled(work)
        pdf_line = PDF_LINE.format(pdf=f"{world.urls['cdn']}/content/{artifact_of(work, 'vor')}.pdf")
        page = PAGE.format(work=work, doi=doi_of(work), pdf_line="" if work % SILENT_EVERY == 0 else pdf_line)
        return HTMLResponse(page, headers={"Cache-Control": "max-age=600"})

    article = [Route("/article/{work:int}", landing)]
    return {"doi": [Route("/{doi:path}", doi)], "publisher-a": article, "publisher-b": article}
