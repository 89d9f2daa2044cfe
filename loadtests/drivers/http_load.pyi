from collections.abc import Iterable

from loadtests.drivers.load_loop import LoadLoop

class HttpLoad(LoadLoop):
    """HTTP/1.1 POST requests over kept connections, one on its way on each; OK is status 200."""

    def __init__(
        self,
        host: str,
        port: int,
        bodies: Iterable[bytes],
        *,
        connections: int,
        path: str,
        content_type: str = "application/json",
    ) -> None:
        """Connect; replies must carry a Content-Length. Raises OSError when the server does not accept."""
