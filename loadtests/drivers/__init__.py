"""Load generators: our own gRPC and HTTP clients, and runners of h2load and wrk."""
