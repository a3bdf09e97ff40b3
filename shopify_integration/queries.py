"""The texts of the queries to a shop's Admin API (GraphQL), each with the fields that are read.

Source: shopify.dev/docs/api/admin-graphql.
"""

from __future__ import annotations

_PRODUCT = "id title handle status descriptionHtml vendor productType tags createdAt updatedAt"
_VARIANT = "id title sku price inventoryQuantity"

SHOP = "{ shop { name myshopifyDomain email currencyCode ianaTimezone primaryDomain { url } } }"
PRODUCTS = f"""
query Products($first: Int!, $after: String, $variants: Int!) {{
  products(first: $first, after: $after) {{
    nodes {{
      {_PRODUCT}
      variants(first: $variants) {{
        nodes {{ {_VARIANT} }}
        pageInfo {{ hasNextPage endCursor }}
      }}
    }}
    pageInfo {{ hasNextPage endCursor }}
  }}
}}"""
PRODUCT = f"""
query Product($id: ID!, $variants: Int!) {{
  product(id: $id) {{
    {_PRODUCT}
    variants(first: $variants) {{
      nodes {{ {_VARIANT} }}
      pageInfo {{ hasNextPage endCursor }}
    }}
  }}
}}"""
VARIANTS = f"""
query Variants($id: ID!, $first: Int!, $after: String) {{
  product(id: $id) {{
    variants(first: $first, after: $after) {{
      nodes {{ {_VARIANT} }}
      pageInfo {{ hasNextPage endCursor }}
    }}
  }}
}}"""
SUBSCRIPTIONS = """
query Subscriptions($first: Int!) {
  webhookSubscriptions(first: $first) { nodes { topic uri } }
}"""
SUBSCRIBE = """
mutation Subscribe($topic: WebhookSubscriptionTopic!, $to: WebhookSubscriptionInput!) {
  webhookSubscriptionCreate(topic: $topic, webhookSubscription: $to) {
    userErrors { field message }
  }
}"""
PRODUCTS_COUNT = "{ productsCount { count } }"
ALL_PRODUCTS = f"""
{{
  products {{
    edges {{ node {{
      {_PRODUCT}
      variants {{ edges {{ node {{ {_VARIANT} }} }} }}
    }} }}
  }}
}}"""
RUN_BULK = """
mutation Run($query: String!) {
  bulkOperationRunQuery(query: $query, groupObjects: true) {
    bulkOperation { id }
    userErrors { field message }
  }
}"""
BULK_STATUS = """
query Status($id: ID!) {
  bulkOperation(id: $id) { status errorCode url objectCount rootObjectCount }
}"""
