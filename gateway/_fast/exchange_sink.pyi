class ExchangeSink:
    """Where a transport hands a request over: the pipeline in a worker, a stand-in in tests."""
