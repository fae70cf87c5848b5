"""An artificial agent for CT to cone-beam CT registration: the shared module behind the notebooks.

`lib.register(fixed, moving)` registers a pair of one's own. It is the module `lib.register` itself, which can be called
(see there), so that both `from lib.register import register` and `lib.register(...)` hold. Modules load when first used:
`import lib` costs nothing.
"""


def __getattr__(name: str):
    if name == "register":
        import importlib

        return importlib.import_module("lib.register")
    raise AttributeError(f"module 'lib' has no attribute {name!r}")
