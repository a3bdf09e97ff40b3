"""What the documents of merchants were before."""
