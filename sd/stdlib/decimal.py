"""Stands in for `decimal` on the card: two names that voluptuous imports for a validator that nothing here uses.

The real one is 6000 lines of Python where its C half is not built, and costs 0.27 MB of memory. Left out: all of it; a
Decimal cannot be made.
"""


class InvalidOperation(ArithmeticError):
    pass


class Decimal:
    def __new__(cls, *_arguments):
        raise NotImplementedError("there are no decimals in the camera's Python")
