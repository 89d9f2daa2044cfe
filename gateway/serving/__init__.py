"""The request's road: connections, protocols, routing, lanes, commit."""
