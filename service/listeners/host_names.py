"""The host names under which this server answers.

With DNS rebinding a foreign name resolves to a loopback address, so that a web page of another site can read from a
server that answers its own machine only. Such a request has the foreign name in its ``Host`` header and is refused.
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
        The request; only its ``Host`` header is read.
    public_url
        Its host is accepted besides the loopback names; may be empty.

    Raises
    ------
    Problem
        ``forbidden`` for any other host.
    """
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    if host not in {"localhost", urlsplit(public_url).hostname or "localhost"} and not is_loopback(host):
        raise Problem(
            Category.FORBIDDEN, "this server does not answer under this name; the setting PUBLIC_URL gives it one"
        )
