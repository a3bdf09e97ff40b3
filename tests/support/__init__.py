"""What the tests stand on: a real S3 server, a clock that stands still, faulty servers."""
