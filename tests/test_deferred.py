"""Tests that deferred dataclasses behave as if they had been decorated at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

BEFORE = """
import copy, dataclasses, inspect, pickle
from pychrony.models import Activity, AllReports
"""

# Each expression is the first to need the dataclass, in its own process.
FIRST = {
    "is_dataclass": "assert dataclasses.is_dataclass(Activity)",
    "fields": "assert [f.name for f in dataclasses.fields(Activity)][:2] == ['online', 'offline']",
    "signature": "assert list(inspect.signature(Activity).parameters)[1] == 'offline'",
    "call": "assert Activity(1, 2, 3, 4, unresolved=5).unresolved == 5",
    "wrong call": """
try:
    Activity(1)
except TypeError as error:
    assert "missing 4 required positional arguments" in str(error)
else:
    raise AssertionError
""",
    "match": """
match make():
    case Activity(1, 2):
        pass
    case _:
        raise AssertionError
""",
    "equality": "assert make() == make() and make() != make(online=2)",
    "hash": "assert hash(make()) == hash(make())",
    "repr": "assert repr(make()).startswith('Activity(online=1, offline=2, ')",
    "assignment": """
try:
    make().online = 7
except dataclasses.FrozenInstanceError:
    pass
else:
    raise AssertionError
""",
    "deletion": """
try:
    del make().online
except dataclasses.FrozenInstanceError:
    pass
else:
    raise AssertionError
""",
    "replace": "assert dataclasses.replace(make(), online=7).online == 7",
    "asdict": "assert dataclasses.asdict(make())['offline'] == 2",
    "copy": "assert copy.deepcopy(make()) == make()",
    "pickle": "assert pickle.loads(pickle.dumps(make())) == make()",
    "subclass": """
@dataclasses.dataclass(frozen=True)
class More(Activity):
    more: int = 6
assert More(1, 2, 3, 4, 5).more == 6
class Plain(Activity):
    pass
assert Plain(1, 2, 3, 4, 5).online == 1
""",
    "missing": "assert AllReports() == AllReports(missing={}) and AllReports().tracking is None",
    "threads": """
import sys, threading
sys.setswitchinterval(1e-6)
found = []
start = threading.Barrier(8)
def use():
    start.wait()
    found.append(make())
    found.append(Activity(1, 2, 3, 4, 5))
threads = [threading.Thread(target=use) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(found) == 16 and len(set(found)) == 1
""",
}
# As the engine makes it: without `__init__`.
MAKE = """
from pychrony._model.deferred import new
def make(**values):
    numbers = dict(online=1, offline=2, burst_online=3, burst_offline=4, unresolved=5)
    return new(Activity, **{**numbers, **values})
"""


@pytest.mark.parametrize("use", FIRST)
def test_a_model_is_a_frozen_dataclass_whatever_needs_it_first(use: str) -> None:
    program = BEFORE + MAKE + FIRST[use]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stderr, done.returncode) == ("", 0)


def test_a_check_imports_nothing_that_takes_long() -> None:
    slow = "asyncio", "dataclasses", "inspect", "json", "matplotlib", "prometheus_client", "shutil"
    program = f"""
import sys
before = set(sys.modules)
from pychrony._command.cli import main
try:
    main(["check", "--address", "127.0.0.1:9", "--timeout", "0.1"])
finally:
    print(sorted(set({slow}) & (set(sys.modules) - before)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


FORK = """
import os, signal, threading, time, warnings
from pychrony._model import deferred
from pychrony.models import Activity

warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
begun, decorate = threading.Event(), deferred._decorate

def slowly(owner, options):
    begun.set()
    time.sleep(0.3)
    decorate(owner, options)

deferred._decorate = slowly
thread = threading.Thread(target=lambda: Activity(1, 2, 3, 4, 5))
thread.start()
begun.wait()
child = os.fork()
if child == 0:
    signal.alarm(10)
    os._exit(Activity(1, 2, 3, 4, 5) != Activity(1, 2, 3, 4, 5))
thread.join()
assert os.waitpid(child, 0)[1] == 0
"""


def test_a_child_forked_while_a_class_is_completed_can_use_it() -> None:
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=60)


IMPORT_AT_FORK = """
import os
os.register_at_fork(before=lambda: __import__("pychrony.models"))
child = os.fork()
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
import pychrony.models
pychrony.models.Activity(1, 2, 3, 4, 5)
"""


def test_an_import_while_a_process_forks_is_safe() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_AT_FORK], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


CUT_SHORT = """
import dataclasses, os, sys
from pychrony.models import Activity

make = lambda: Activity(1, 2, 3, 4, unresolved=5)
lines = 0

def interrupt(frame, event, argument):
    global lines
    if frame.f_globals.get("__name__") not in ("dataclasses", "pychrony._model.deferred"):
        return None
    lines += 1
    if lines == last:
        sys.settrace(None)
        raise KeyboardInterrupt
    return interrupt

def use():
    sys.settrace(interrupt)
    try:
        make()
    except KeyboardInterrupt:
        pass
    sys.settrace(None)
    assert make() == make() and make() != Activity(7, 2, 3, 4, 5)
    assert [f.name for f in dataclasses.fields(Activity)][:2] == ["online", "offline"]

sys.unraisablehook = lambda _: None  # a generator that is closed loses the exception
last, status = 0, 0
while status == 0:  # each child has the class as it was imported
    last += int(sys.argv[1])
    child = os.fork()
    if child == 0:
        use()  # after an error, it ends with status 1
        os._exit(0 if lines >= last else 7)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(last, status)
"""


def test_a_class_whose_completion_is_interrupted_is_completed_later() -> None:
    command = [sys.executable, "-c", CUT_SHORT, "13"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    last, status = map(int, done.stdout.split())
    assert status == 7
    assert last > 100
