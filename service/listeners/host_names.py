"""The host names under which this server answers.

With DNS rebinding a foreign name resolves to a loopback address, so that a web page of another site can read from a
server that answers its own machine only. Such a request has the foreign name in its ``Host`` header and is refused.
"""

from functools import lru_cache
from urllib.parse import urlsplit

from kernel.errors import Category, Problem
from privacy.principal import is_loopback


def check_host(host: str, public_url: str) -> None:
    """Refuse a request for another name than this server's own.

    Parameters
    ----------
    host
        The request's ``Host`` header, empty when it has none.
    public_url
        Its host is accepted besides the loopback names; may be empty.

    Raises
    ------
    Problem
        ``forbidden`` for any other host.
    """
    if not _is_own(host, public_url):
        raise Problem(
            Category.FORBIDDEN, "this server does not answer under this name; the setting PUBLIC_URL gives it one"
        )


@lru_cache(maxsize=64)
def _is_own(header: str, public_url: str) -> bool:
    host = urlsplit(f"//{header}").hostname or ""
    return host in {"localhost", urlsplit(public_url).hostname or "localhost"} or is_loopback(host)
