"""What is seen of the running gateway from outside: metrics first; profiles, drift and quality later."""
