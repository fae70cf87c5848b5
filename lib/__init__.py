"""An artificial agent for CT to cone-beam CT registration: the shared module behind the notebooks.

`import lib` costs nothing; `lib.register` loads what it needs when it is called.
"""


def register(*words, **names):
    """Register a CT (moving) to a cone-beam CT (fixed): `lib.registration.register.register`, which says what it takes."""
    from lib.registration.register import register as work

    return work(*words, **names)
