"""What is asked of every member of a kind: a class per kind, which a member's test class inherits.

A member says what it is (`of`) and how one is made; the questions are the kind's. `test_kinds.py` finds a
member without such a class.
"""
