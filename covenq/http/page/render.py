"""Templates to HTML. What a template is given is neutralised and escaped here, in one place, whatever it is and wherever it goes.

Titles, logins and branches come from whoever can open an issue: `covenq.text.escape` makes what a browser would obey, or nobody
sees (controls, direction marks), readable, and autoescape what HTML would.
"""

from __future__ import annotations

from functools import cache

import falcon
from jinja2 import Environment, PackageLoader, StrictUndefined

from covenq.http.page import links
from covenq.http.page.style import sheet
from covenq.text import escape


def _shown(value: object) -> object:
    """What stands for a value of a template. A macro's own output, whose values came by here, is HTML already."""
    if value is None:
        return ""
    return value if hasattr(value, "__html__") else escape(str(value))


@cache
def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader("covenq.http.page"),
        autoescape=True,
        auto_reload=False,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(links=links, sheet=sheet())
    return made


def render(name: str, **values: object) -> str:
    """The page of the template of that name."""
    return _templates().get_template(f"{name}.html").render(**values)


def respond_page(resp: falcon.Response, name: str, status: int = 200, **values: object) -> None:
    """Answer with it."""
    resp.status = falcon.code_to_http_status(status)
    resp.content_type = "text/html; charset=utf-8"
    resp.data = render(name, **values).encode("utf-8", "replace")


def redirect(resp: falcon.Response, to: str) -> None:
    """Have the browser ask for another page, by GET. `to` is one of `links`."""
    resp.status = falcon.HTTP_303
    resp.set_header("Location", to)
