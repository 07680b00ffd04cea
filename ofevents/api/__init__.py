"""The resources: pydantic models that are the CRDs, and what workers are given."""
