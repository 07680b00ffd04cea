"""What stands in a resolved spec for a credential that is kept in a Secret.

Written by `resolve` on a cluster, so that no credential leaves its Secret.
"""


def marker(name: str, key: str) -> str:
    """Text that no credential has, for a key of a Secret in the worker's own namespace."""
    return f"\x00secret:{name}/{key}\x00"
