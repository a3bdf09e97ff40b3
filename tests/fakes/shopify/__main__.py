"""`python -m tests.fakes.shopify --port 0`: serves, and prints its port."""

from __future__ import annotations

from tests.fakes.serving import serve
from tests.fakes.shopify.app import build

if __name__ == "__main__":
    serve(build, "A stand-in for Shopify")
