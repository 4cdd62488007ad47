"""The headers of every page: nothing is kept, nothing is loaded, nothing frames it, and no address is told to another site."""

from __future__ import annotations

import falcon

from covenq.http.page.style import sheet_hash


def set_headers(resp: falcon.Response) -> None:
    """On pages, redirections and errors alike."""
    policy = "; ".join(
        (
            "default-src 'none'",
            f"style-src '{sheet_hash()}'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        )
    )
    resp.set_headers(
        {
            "Content-Security-Policy": policy,
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
    )
