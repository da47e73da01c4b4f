"""Which names this server answers to.

A foreign name can be made to resolve to a loopback address (DNS rebinding), so that a page on the open web reads what
only this machine should. Such a request carries the foreign name in its ``Host`` header, and is refused.
"""

from urllib.parse import urlsplit

from starlette.requests import Request

from kernel.errors import Category, Problem
from privacy.principal import is_loopback


def check_host(request: Request, public_url: str) -> None:
    """Refuse a request for another name than this server's own.

    Parameters
    ----------
    request
        Its ``Host`` header is looked at.
    public_url
        By whose host this server may be asked, besides the names of the loopback; may be empty.

    Raises
    ------
    Problem
        ``forbidden``.
    """
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    if host not in {"localhost", urlsplit(public_url).hostname or "localhost"} and not is_loopback(host):
        raise Problem(
            Category.FORBIDDEN, "this server does not answer under this name; the setting PUBLIC_URL gives it one"
        )
