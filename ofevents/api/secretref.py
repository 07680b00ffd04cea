"""stand-in"""


def marker(name: str, key: str) -> str:
    return f"\x00secret:{name}/{key}\x00"
