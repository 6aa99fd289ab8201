"""One engine made awaitable, whatever the wire: requests in, Results out, and how the service is."""
