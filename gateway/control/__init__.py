"""Changes: desired state, repository, snapshots, admin API. Never on a request's road."""
