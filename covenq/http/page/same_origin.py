"""Whether a form was sent from one of these pages: what keeps another site from sending one (CSRF), beside SameSite cookies.

A browser says so in Sec-Fetch-Site wherever a page works at all (over TLS, or on loopback), and older ones in Origin. One that is
asked to send no referrer says `Origin: null` of its own pages too, so that Sec-Fetch-Site comes first. What sends neither is no
browser of today, and holds no cookie that a site could misuse.
"""

from __future__ import annotations

from urllib.parse import urlsplit


def is_same_origin(fetch_site: str | None, origin: str | None, host: str | None) -> bool:
    """By the fields Sec-Fetch-Site, Origin and Host of a request."""
    if fetch_site is not None:
        return fetch_site.strip().lower() in ("same-origin", "none")
    if origin is None:
        return True
    try:
        found = urlsplit(origin.strip())
    except ValueError:
        return False
    return bool(found.netloc) and found.netloc.lower() == (host or "").strip().lower()
