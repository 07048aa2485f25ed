"""Makes a Python compile as its free-threaded twin does, which may not be on this machine."""

import os
import sysconfig

VARIABLES = sysconfig.get_config_vars()
VARIABLES["Py_GIL_DISABLED"] = 1
VARIABLES["EXT_SUFFIX"] = os.environ["PYCHRONY_REHEARSAL_SUFFIX"]
os.environ["CPPFLAGS"] = "-DPy_GIL_DISABLED=1"
