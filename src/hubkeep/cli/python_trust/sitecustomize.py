"""Put on PYTHONPATH by ``hubkeep run``: libraries that ask certifi for roots get the hub's as well.

Some clients read no environment variable and no system store, only certifi's file. Imported by ``site`` in the
program's own Python, which may be any version and have no Hubkeep: it uses nothing but the standard library.
"""

import os
import sys

_bundle = os.environ.get("HUBKEEP_RUN_BUNDLE", "")
if _bundle:
    try:
        import certifi
        import certifi.core
    except ImportError:
        pass
    else:
        certifi.where = certifi.core.where = lambda: _bundle

# the program's own sitecustomize, which this one stands before
_here = os.path.dirname(os.path.abspath(__file__))
for _folder in sys.path:
    _path = os.path.join(_folder, "sitecustomize.py")
    if os.path.abspath(_folder) != _here and os.path.isfile(_path):
        with open(_path, encoding="utf-8") as _file:
            exec(compile(_file.read(), _path, "exec"))
        break
