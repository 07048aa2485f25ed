"""Makes a Python compile like its free-threaded counterpart, which may be missing here."""

import os
import sysconfig

VARIABLES = sysconfig.get_config_vars()
VARIABLES["Py_GIL_DISABLED"] = 1
VARIABLES["EXT_SUFFIX"] = os.environ["PYCHRONY_REHEARSAL_SUFFIX"]
os.environ["CPPFLAGS"] = "-DPy_GIL_DISABLED=1"
