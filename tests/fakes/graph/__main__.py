"""`python -m tests.fakes.graph --port 0`: serves, and prints its port."""

from __future__ import annotations

from tests.fakes.graph.app import build
from tests.fakes.serving import serve

if __name__ == "__main__":
    serve(build, "A stand-in for the Graph API")
