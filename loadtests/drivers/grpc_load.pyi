from collections.abc import Iterable

from loadtests.drivers.load_loop import LoadLoop

class GrpcLoad(LoadLoop):
    """gRPC unary calls over cleartext HTTP/2; OK is grpc-status 0 and nothing else."""

    def __init__(
        self,
        host: str,
        port: int,
        messages: Iterable[bytes],
        *,
        connections: int,
        streams: int,
        path: str = "/inference.GRPCInferenceService/ModelInfer",
    ) -> None:
        """Connect; `messages` are serialized protobuf, `streams` the most calls in flight on one connection.

        Raises OSError when the server does not accept.
        """
