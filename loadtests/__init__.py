"""Load tests: the gateway against hand-written servers, measured in CPU per request."""
