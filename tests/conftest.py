"""For all tests: hypothesis without a clock, since how long an example takes says nothing about whether it is right."""

from hypothesis import HealthCheck, settings

settings.register_profile("gateway", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("gateway")
